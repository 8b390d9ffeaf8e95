//! State machines, one file each. The form is the same for all: an enum of states, an enum of
//! events, one `next(event)` in one match, `is_final()`. No setters. The store keeps the events
//! (who, when, why) and the current state, and writes only against the generation it read.
//!
//! Tests walk each table: every state is reached, nothing leaves a final state; the diagrams in
//! `docs/state-machines.md` are printed from the same tables by `cargo xtask golden`.

pub mod deployment;
pub mod finding;
pub mod host;
pub mod plan;
pub mod rollout;
pub mod task;
pub mod wave;

pub use deployment::{DeploymentEvent, DeploymentState};
pub use finding::{FindingEvent, FindingState};
pub use host::{HostEvent, HostState};
pub use plan::{PlanEvent, PlanState};
pub use rollout::{RolloutEvent, RolloutState};
pub use task::{TaskEvent, TaskState};
pub use wave::{WaveEvent, WaveState};

/// An event that the present state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {machine} that is {state} cannot {event}")]
pub struct IllegalTransition {
    /// Which machine (`deployment`).
    pub machine: &'static str,
    /// The present state.
    pub state: &'static str,
    /// What was tried.
    pub event: &'static str,
}

/// What all machines have in common, for stores, tests and diagrams.
pub trait Machine: Copy + Eq + std::fmt::Debug + Sized + 'static {
    /// What may happen.
    type Event: Copy + Eq + std::fmt::Debug + 'static;
    /// Name of the machine (`deployment`).
    const NAME: &'static str;
    /// All states, the first one first.
    const STATES: &'static [Self];
    /// All events.
    const EVENTS: &'static [Self::Event];
    /// The one transition function.
    fn next(self, event: Self::Event) -> Result<Self, IllegalTransition>;
    /// Whether nothing can happen any more.
    fn is_final(self) -> bool;
    /// Stable text of this state.
    fn as_str(self) -> &'static str;
    /// Stable text of an event.
    fn event_str(event: Self::Event) -> &'static str;
    /// The state of this text.
    fn parse(text: &str) -> Option<Self> {
        Self::STATES.iter().copied().find(|state| state.as_str() == text)
    }
    /// All arrows of the machine, in table order.
    fn arrows() -> Vec<(Self, Self::Event, Self)> {
        Self::STATES
            .iter()
            .flat_map(|from| Self::EVENTS.iter().map(move |event| (*from, *event)))
            .filter_map(|(from, event)| from.next(event).ok().map(|to| (from, event, to)))
            .collect()
    }
    /// The machine as a Mermaid state diagram.
    fn mermaid() -> String {
        let mut text = String::from("stateDiagram-v2\n");
        if let Some(first) = Self::STATES.first() {
            text.push_str(&format!("    [*] --> {}\n", first.as_str().replace('-', "_")));
        }
        for (from, event, to) in Self::arrows() {
            text.push_str(&format!(
                "    {} --> {}: {}\n",
                from.as_str().replace('-', "_"),
                to.as_str().replace('-', "_"),
                Self::event_str(event)
            ));
        }
        for state in Self::STATES.iter().filter(|state| state.is_final()) {
            text.push_str(&format!("    {} --> [*]\n", state.as_str().replace('-', "_")));
        }
        text
    }
}

/// Declares the two enums of a machine with their texts; the transition function stays hand-written.
macro_rules! machine {
    ($name:literal, $(#[$sdoc:meta])* $state:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }
     $(#[$edoc:meta])* $event:ident { $($(#[$evdoc:meta])* $evariant:ident = $etext:literal,)* }
     next = $next:path, is_final = $is_final:path) => {
        $(#[$sdoc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $state { $($(#[$vdoc])* #[serde(rename = $text)] $variant,)* }
        $(#[$edoc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $event { $($(#[$evdoc])* #[serde(rename = $etext)] $evariant,)* }
        impl $crate::machine::Machine for $state {
            type Event = $event;
            const NAME: &'static str = $name;
            const STATES: &'static [Self] = &[$($state::$variant,)*];
            const EVENTS: &'static [$event] = &[$($event::$evariant,)*];
            fn next(self, event: $event) -> Result<Self, $crate::machine::IllegalTransition> {
                $next(self, event).ok_or($crate::machine::IllegalTransition {
                    machine: $name,
                    state: self.as_str(),
                    event: Self::event_str(event),
                })
            }
            fn is_final(self) -> bool { $is_final(self) }
            fn as_str(self) -> &'static str { match self { $($state::$variant => $text,)* } }
            fn event_str(event: $event) -> &'static str { match event { $($event::$evariant => $etext,)* } }
        }
        impl std::fmt::Display for $state {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str($crate::machine::Machine::as_str(*self))
            }
        }
        #[cfg(test)]
        mod table {
            #[test]
            fn every_state_is_reached_and_nothing_leaves_a_final_one() {
                $crate::machine::walk::<super::$state>();
            }
        }
    };
}
pub(crate) use machine;

#[cfg(test)]
pub(crate) fn walk<M: Machine>() {
    let arrows = M::arrows();
    let mut reached = vec![M::STATES[0]];
    let mut index = 0;
    while index < reached.len() {
        for (from, _, to) in &arrows {
            if *from == reached[index] && !reached.contains(to) {
                reached.push(*to);
            }
        }
        index += 1;
    }
    for state in M::STATES {
        assert!(reached.contains(state), "{} {state:?} is never reached", M::NAME);
        assert_eq!(M::parse(state.as_str()), Some(*state));
        let leaves = arrows.iter().any(|(from, _, to)| from == state && to != state);
        assert_eq!(!leaves, state.is_final(), "{} {state:?}: is_final disagrees with the table", M::NAME);
    }
    for event in M::EVENTS {
        assert!(arrows.iter().any(|(_, e, _)| e == event), "{} {event:?} does nothing", M::NAME);
    }
}
