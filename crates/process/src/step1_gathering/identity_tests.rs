//! Machines and their copies in all the ways they come.

use super::identity::*;
use fettle_domain::host::MachineMarks;
use fettle_domain::machine::HostState;
use proptest::prelude::*;

fn marks(machine_id: &str, product_uuid: &str, macs: &[&str], name: &str) -> MachineMarks {
    MachineMarks {
        machine_id: machine_id.into(),
        product_uuid: product_uuid.into(),
        macs: macs.iter().map(|mac| (*mac).to_owned()).collect(),
        name: name.into(),
    }
}

const CARD: &str = "52:54:00:00:00:01";
const OTHER_CARD: &str = "52:54:00:00:00:02";
const BRIDGE: &str = "02:42:ac:11:00:02";

#[test]
fn one_machine_or_two() {
    let known = marks("m1", "u1", &[CARD, BRIDGE], "web-1");
    let bare = |macs: &[&str]| marks("", "", macs, "web-1");
    let cases = [
        ("nothing changed", known.clone(), known.clone(), true),
        ("another name", known.clone(), marks("m1", "u1", &[CARD], "db-7"), true),
        ("another network card", known.clone(), marks("m1", "u1", &[OTHER_CARD], "web-1"), true),
        ("another disk, installed anew", known.clone(), marks("m2", "u1", &[CARD], "web-1"), true),
        ("a virtual machine cloned", known.clone(), marks("m1", "u2", &[OTHER_CARD], "web-1"), false),
        ("cloned with its card's address", known.clone(), marks("m1", "u2", &[CARD], "web-1"), false),
        ("a container started twice from one image", bare(&[CARD]), bare(&[OTHER_CARD]), false),
        ("only the container bridge is shared", bare(&[CARD, BRIDGE]), bare(&[OTHER_CARD, BRIDGE]), false),
        ("no UUID, same card", marks("m1", "", &[CARD], "a"), marks("m1", "", &[CARD, OTHER_CARD], "a"), true),
        ("only the machine-id is known", marks("m1", "", &[], "a"), marks("m2", "", &[], "a"), false),
        ("nothing is known", marks("", "", &[], "a"), marks("", "", &[], "b"), true),
        ("the UUID is told only once", known.clone(), marks("m1", "", &[CARD], "web-1"), true),
    ];
    for (what, known, presented, same) in cases {
        let (answer, why) = same_machine(&known, &presented);
        assert_eq!(answer, same, "{what}: {why:?}");
    }
    let (_, why) = same_machine(&known, &marks("m1", "u2", &[OTHER_CARD], "web-1"));
    let text: Vec<String> = why.iter().map(ToString::to_string).collect();
    assert_eq!(text, ["the firmware's product UUID is another", "the machine-id is the same, as copied with an image"]);
}

fn link(number: u8) -> Vec<u8> {
    vec![number; 16]
}

/// A machine with its memory of the chain.
#[derive(Clone)]
struct Machine {
    marks: MachineMarks,
    last: Vec<u8>,
}

/// The server and whatever speaks to it.
struct World {
    chain: KnownChain,
    marks: MachineMarks,
    drawn: u8,
}

impl World {
    fn speak(&mut self, machine: &mut Machine) -> Speaker {
        self.drawn += 1;
        let presented = PresentedLink { previous: machine.last.clone(), link: link(self.drawn) };
        let (speaker, chain) = who_speaks(&self.chain, &self.marks, &presented, &machine.marks);
        self.chain = chain;
        if !matches!(speaker, Speaker::Copy(_)) {
            machine.last = presented.link;
            self.marks = machine.marks.clone();
        }
        speaker
    }
}

fn world() -> (World, Machine) {
    let marks = marks("m1", "u1", &[CARD], "web-1");
    let mut world = World { chain: KnownChain::default(), marks: marks.clone(), drawn: 0 };
    let mut machine = Machine { marks, last: Vec::new() };
    assert_eq!(world.speak(&mut machine), Speaker::Rightful);
    assert_eq!(world.speak(&mut machine), Speaker::Rightful);
    (world, machine)
}

#[test]
fn a_copy_on_other_hardware_is_known_at_its_first_word_whoever_speaks_first() {
    let (mut world, mut first) = world();
    let mut copy = Machine { marks: marks("m1", "u2", &[OTHER_CARD], "web-1"), ..first.clone() };
    assert_eq!(world.speak(&mut first), Speaker::Rightful);
    for _ in 0..3 {
        assert!(matches!(world.speak(&mut copy), Speaker::Copy(_)));
        assert_eq!(world.speak(&mut first), Speaker::Rightful, "the first is not disturbed");
    }
    // The copy spoke first after the copying: then the chain is its own, and the other one is told apart.
    let (mut world, mut first) = self::world();
    let mut copy = Machine { marks: marks("m1", "u2", &[OTHER_CARD], "web-1"), ..first.clone() };
    assert_eq!(world.speak(&mut copy), Speaker::Rightful);
    assert!(matches!(world.speak(&mut first), Speaker::Copy(_)));
}

#[test]
fn a_restored_machine_is_no_copy() {
    let (mut world, mut machine) = world();
    let back_up = machine.clone();
    for _ in 0..5 {
        world.speak(&mut machine);
    }
    let mut machine = back_up;
    assert!(matches!(world.speak(&mut machine), Speaker::Restored(_)));
    for _ in 0..5 {
        assert_eq!(world.speak(&mut machine), Speaker::Rightful);
    }
}

#[test]
fn a_copy_of_the_same_marks_is_known_when_both_lines_go_on() {
    let (mut world, mut first) = world();
    let mut copy = first.clone();
    // Strictly in turns, which no window of tolerated links would notice.
    assert_eq!(world.speak(&mut first), Speaker::Rightful);
    assert!(matches!(world.speak(&mut copy), Speaker::Rightful | Speaker::Restored(_)));
    assert!(matches!(world.speak(&mut first), Speaker::Returned(_)));
    for _ in 0..3 {
        assert!(matches!(world.speak(&mut copy), Speaker::Copy(_)));
        assert_eq!(world.speak(&mut first), Speaker::Rightful);
    }
}

#[test]
fn a_lost_answer_is_no_news() {
    let (mut world, machine) = world();
    let before = machine.clone();
    let mut machine = machine;
    // The answer did not come: the same link once more.
    let presented = PresentedLink { previous: machine.last.clone(), link: link(200) };
    for _ in 0..2 {
        let (speaker, chain) = who_speaks(&world.chain, &world.marks, &presented, &machine.marks);
        assert_eq!(speaker, Speaker::Rightful);
        world.chain = chain;
    }
    // Nor did the agent live to send it again: a new link after the same one.
    machine = before;
    assert_eq!(world.speak(&mut machine), Speaker::Rightful);
    assert_eq!(world.speak(&mut machine), Speaker::Rightful);
}

#[test]
fn who_an_enrolling_machine_may_have_been() {
    let known = marks("m1", "u1", &[CARD], "web-1");
    let host = |state| OtherHost { state, marks: known.clone() };
    let topics = |newcomer: &MachineMarks, state| -> Vec<String> {
        likeness(newcomer, &host(state)).into_iter().map(|reason| reason.topic).collect()
    };
    let anew = marks("m2", "u1", &[CARD], "web-1");
    let all = ["likeness.product-uuid", "likeness.macs", "likeness.name", "likeness.state"];
    for state in [HostState::Silent, HostState::Retired, HostState::Managed] {
        assert_eq!(topics(&anew, state), all);
    }
    let namesake = marks("m9", "u9", &[OTHER_CARD], "web-1");
    assert_eq!(topics(&namesake, HostState::Silent), ["likeness.name", "likeness.state"]);
    assert_eq!(topics(&namesake, HostState::Imported), ["likeness.name", "likeness.state"]);
    assert!(topics(&namesake, HostState::Managed).is_empty());
    let same_image = marks("m1", "u7", &[OTHER_CARD], "web-7");
    assert_eq!(topics(&same_image, HostState::Retired), ["likeness.machine-id", "likeness.state"]);
    assert!(topics(&same_image, HostState::Managed).is_empty(), "twenty machines of one image are twenty hosts");
    assert!(topics(&marks("", "", &[], ""), HostState::Silent).is_empty());
    assert!(topics(&marks("m8", "u8", &[BRIDGE], "x"), HostState::Silent).is_empty());
}

proptest! {
    /// However often one machine speaks, repeats itself, loses answers or is set back: it is never a copy,
    /// and its next two words are taken as its own.
    #[test]
    fn one_machine_alone_is_never_a_copy(steps in prop::collection::vec(0_u8..4, 1..60)) {
        let (mut world, mut machine) = world();
        let mut kept = vec![machine.clone()];
        for step in steps {
            match step {
                0 | 1 => { world.speak(&mut machine); }
                2 => kept.push(machine.clone()),
                _ => {
                    // Set back to a state that is not older than the last time it was set back.
                    machine = kept.last().cloned().unwrap();
                    let speaker = world.speak(&mut machine);
                    prop_assert!(!matches!(speaker, Speaker::Copy(_)), "{speaker:?}");
                    kept = vec![machine.clone()];
                }
            }
            if world.drawn > 240 { break; }
        }
        let first = world.speak(&mut machine);
        prop_assert!(!matches!(first, Speaker::Copy(_)), "{first:?}");
        prop_assert_eq!(world.speak(&mut machine), Speaker::Rightful);
    }

    /// Two machines, whatever their turns: as soon as each spoke twice after the copying, one of them,
    /// and always the same, is told that it is a copy.
    #[test]
    fn of_two_machines_one_is_told_apart(turns in prop::collection::vec(any::<bool>(), 0..40), same_marks: bool) {
        let (mut world, first) = world();
        let other = if same_marks { first.marks.clone() } else { marks("m1", "u2", &[OTHER_CARD], "web-1") };
        let mut machines = [first.clone(), Machine { marks: other, ..first }];
        let mut told = [0, 0];
        for turn in turns.into_iter().chain([true, false, true, false, true, false]) {
            let number = usize::from(turn);
            let speaker = world.speak(&mut machines[number]);
            if matches!(speaker, Speaker::Copy(_)) {
                told[number] += 1;
            }
        }
        prop_assert!((told[0] > 0) != (told[1] > 0), "{told:?}");
    }
}
