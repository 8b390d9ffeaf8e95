//! Finds out with apt's own simulation what can be done together, and the obstacles of what cannot.
//!
//! apt solves; here it is only asked again, more precisely: with a dependency's exact version where apt
//! would not look beyond its preferred one, and package by package when one of them spoils the whole.

use super::lists::{Index, Offer};
use super::resolve::Wish;
use super::run::{Ended, Program};
use super::session::{APT_GET, ONLY_WHAT_IS_ASKED, Session};
use super::simulate::{self, Simulated, Unmet};
use super::status::{Database, Entry};
use super::{is_at_least, is_newer};
use fettle_domain::reason::Reason;
use fettle_domain::version::Scheme;
use fettle_plugin::PluginError;
use std::cmp::Ordering;

/// How often a dependency's exact version is added before giving up.
const PINS_CAP: usize = 12;
/// How many simulations may go into finding smaller steps for what comes along.
const SMALLER_CAP: usize = 16;

/// A dry run that apt says would work.
#[derive(Debug, Clone, Default)]
pub(super) struct Solution {
    /// What apt would do.
    pub steps: Vec<Simulated>,
    /// What was asked for.
    pub wishes: Vec<Wish>,
    /// Versions of dependencies that were asked for besides.
    pub pins: Vec<Wish>,
}

/// What one simulation is about.
pub(super) struct Solver<'s, 'a, 'c> {
    pub session: &'s Session<'a, 'c>,
    pub database: &'s Database,
    pub index: &'s Index,
    pub allow_removals: bool,
}

type Tried = Result<Solution, Vec<Reason>>;

impl Solver<'_, '_, '_> {
    /// The most that can be done of all wishes, and the obstacles of the rest.
    pub fn solve(&self, wishes: &[Wish]) -> Result<(Solution, Vec<Reason>), PluginError> {
        if wishes.is_empty() {
            return Ok((Solution::default(), Vec::new()));
        }
        if let Ok(solution) = self.attempt(wishes, &[])? {
            return Ok((self.smaller(solution)?, Vec::new()));
        }
        // One of them spoils the whole: each by itself, then those that are possible together.
        let mut obstacles = Vec::new();
        let mut possible = Vec::new();
        for wish in wishes {
            match self.attempt(std::slice::from_ref(wish), &[])? {
                Ok(_) => possible.push(wish.clone()),
                Err(reasons) => obstacles.extend(reasons),
            }
        }
        let solution = match self.attempt(&possible, &[])? {
            Ok(solution) => solution,
            Err(_) => self.one_more_each_time(&possible, &mut obstacles)?,
        };
        Ok((self.smaller(solution)?, obstacles))
    }

    /// Possible alone but not together: taken in order, as long as it works.
    fn one_more_each_time(&self, wishes: &[Wish], obstacles: &mut Vec<Reason>) -> Result<Solution, PluginError> {
        let mut best = Solution::default();
        for wish in wishes {
            let mut more = best.wishes.clone();
            more.push(wish.clone());
            match self.attempt(&more, &[])? {
                Ok(solution) => best = solution,
                Err(reasons) => obstacles.extend(reasons),
            }
        }
        Ok(best)
    }

    /// One simulation, repeated with exact versions of dependencies where that helps.
    fn attempt(&self, wishes: &[Wish], pins: &[Wish]) -> Result<Tried, PluginError> {
        if wishes.is_empty() {
            return Ok(Ok(Solution::default()));
        }
        let mut pins = pins.to_vec();
        let mut objected = None;
        loop {
            let ended = self.simulate(wishes, &pins)?;
            let (pin, reasons) = if ended.success {
                let solution =
                    Solution { steps: simulate::steps(&ended.stdout), wishes: wishes.to_vec(), pins: pins.clone() };
                let reasons = self.objections(&solution);
                if reasons.is_empty() {
                    return Ok(Ok(solution));
                }
                (self.pin_for_removed(&solution), objected.get_or_insert(reasons).clone())
            } else {
                let unmet = simulate::unmet(&ended.stdout);
                let pin = unmet.iter().find_map(|unmet| self.pin_for(unmet, wishes, &pins));
                (pin, objected.clone().unwrap_or_else(|| self.refusal(wishes, &unmet, &ended)))
            };
            match pin {
                Some(pin) if pins.len() < PINS_CAP => pins.push(pin),
                _ => return Ok(Err(reasons)),
            }
        }
    }

    fn simulate(&self, wishes: &[Wish], pins: &[Wish]) -> Result<Ended, PluginError> {
        let mut args: Vec<String> = ["-s", "-y", "-q", "-o", "Debug::NoLocking=1"].map(str::to_owned).to_vec();
        args.extend(ONLY_WHAT_IS_ASKED.map(str::to_owned));
        if wishes.iter().any(|wish| wish.downgrade) {
            args.push("--allow-downgrades".to_owned());
        }
        args.push("install".to_owned());
        args.extend(wishes.iter().chain(pins).map(Wish::exact));
        self.session.run(Program::query(APT_GET).args(args))
    }

    /// The lowest offered version of a dependency that meets what apt missed.
    fn pin_for(&self, unmet: &Unmet, wishes: &[Wish], pins: &[Wish]) -> Option<Wish> {
        let (relation, version) = unmet.version.as_ref().filter(|_| unmet.positive)?;
        if wishes.iter().chain(pins).any(|known| known.name == unmet.on) {
            return None;
        }
        let entry = self.database.named(&unmet.on).next().filter(|entry| !entry.held)?;
        let meets = |offered: &str| match relation.as_str() {
            "=" => offered == version,
            ">=" => is_at_least(offered, version),
            ">>" => is_newer(offered, version),
            _ => false,
        };
        let offer = self
            .index
            .of(&entry.package)
            .find(|(offer, _)| meets(&offer.version) && is_newer(&offer.version, &entry.package.version))?;
        Some(self.wish(entry, &offer.0.version))
    }

    /// What would be removed may only need to be updated too: it depends on exactly the old version, and apt's
    /// preferred version of it on yet another. The one from the same source version fits, else the lowest.
    fn pin_for_removed(&self, solution: &Solution) -> Option<Wish> {
        let asked = || solution.wishes.iter().chain(&solution.pins);
        let removed =
            solution.steps.iter().filter(|step| step.to.is_none() && !asked().any(|wish| wish.name == step.name));
        let entry = removed.filter_map(|step| self.entry_of(step)).find(|entry| !entry.held)?;
        let newer = || {
            self.index
                .of(&entry.package)
                .map(|(offer, _)| offer)
                .filter(|offer| is_newer(&offer.version, &entry.package.version))
        };
        let same_source = |offer: &&Offer| {
            asked().filter_map(|wish| self.database.named(&wish.name).next().map(|entry| (wish, entry))).any(
                |(wish, other)| {
                    let mut offers = self.index.of(&other.package).map(|(offer, _)| offer);
                    other.package.source == entry.package.source
                        && offers.any(|own| own.version == wish.version && own.source_version == offer.source_version)
                },
            )
        };
        let offer = newer().find(same_source).or_else(|| newer().next())?;
        Some(self.wish(entry, &offer.version))
    }

    fn wish(&self, entry: &Entry, version: &str) -> Wish {
        Wish {
            name: entry.name().to_owned(),
            argument: entry.argument(&self.database.native),
            version: version.to_owned(),
            downgrade: false,
        }
    }

    /// What this provider will not do although apt would.
    fn objections(&self, solution: &Solution) -> Vec<Reason> {
        let asked = names(&solution.wishes);
        let mut reasons = Vec::new();
        let removed: Vec<&str> =
            solution.steps.iter().filter(|step| step.to.is_none()).map(|step| step.name.as_str()).collect();
        if !removed.is_empty() && !self.allow_removals {
            let text = format!(
                "{asked} can only be installed when {} {} removed, and removals are not allowed",
                removed.join(", "),
                if removed.len() == 1 { "is" } else { "are" }
            );
            reasons.push(Reason::new("apt.would-remove", text));
        }
        for step in &solution.steps {
            let Some(entry) = self.entry_of(step) else { continue };
            if entry.held {
                let text = format!("{asked} would change {}, which is held by the administrator", entry.name());
                reasons.push(Reason::new("apt.held", text));
            }
            let wished = solution.wishes.iter().any(|wish| wish.name == step.name);
            if let Some(to) = step.to.as_ref().filter(|to| !wished && is_newer(&entry.package.version, to)) {
                let text = format!("{asked} would bring {} back from {} to {to}", entry.name(), entry.package.version);
                reasons.push(Reason::new("apt.would-downgrade", text));
            }
        }
        reasons
    }

    fn entry_of(&self, step: &Simulated) -> Option<&Entry> {
        self.database.find(&step.name, step.architecture.as_deref().unwrap_or(&self.database.native))
    }

    /// apt's refusal as reasons.
    fn refusal(&self, wishes: &[Wish], unmet: &[Unmet], ended: &Ended) -> Vec<Reason> {
        let asked = names(wishes);
        if !unmet.is_empty() {
            let one = |unmet: &Unmet| {
                Reason::from_source(
                    "apt.unsatisfiable",
                    format!("{asked} cannot be installed: {}", unmet.text),
                    "apt-get",
                )
            };
            return unmet.iter().take(8).map(one).collect();
        }
        let errors: Vec<&str> = ended.lines.iter().filter_map(|line| line.strip_prefix("E: ")).collect();
        let all = errors.join("; ");
        let topic = match all.as_str() {
            all if all.contains("Held packages were changed") => "apt.held",
            all if all.contains("was not found")
                || all.contains("Unable to locate")
                || all.contains("no installation candidate") =>
            {
                "apt.not-offered"
            }
            all if all.contains("removed") => "apt.would-remove",
            _ => "apt.unsatisfiable",
        };
        let why = if all.is_empty() { ended.telling(4).join("; ") } else { all };
        vec![Reason::from_source(topic, format!("{asked} cannot be installed: {why}"), "apt-get")]
    }

    /// Looks for smaller steps of what comes along: apt takes its preferred version of a dependency, which
    /// may jump much further than the change needs.
    fn smaller(&self, mut best: Solution) -> Result<Solution, PluginError> {
        let mut left = SMALLER_CAP;
        for step in best.steps.clone() {
            let asked = best.wishes.iter().chain(&best.pins).any(|wish| wish.name == step.name);
            let (Some(entry), Some(to), false) = (self.entry_of(&step), step.to.as_ref(), asked) else { continue };
            let lower = self.index.of(&entry.package).map(|(offer, _)| offer.version.clone()).filter(|version| {
                is_newer(version, &entry.package.version) && Scheme::Dpkg.compare(version, to) == Ok(Ordering::Less)
            });
            for version in lower.take(4).collect::<Vec<_>>() {
                let Some(rest) = left.checked_sub(1) else { return Ok(best) };
                left = rest;
                let mut pins = best.pins.clone();
                pins.push(self.wish(entry, &version));
                match self.attempt(&best.wishes, &pins)? {
                    Ok(solution) if solution.steps.len() <= best.steps.len() => {
                        best = solution;
                        break;
                    }
                    _ => {}
                }
            }
        }
        Ok(best)
    }
}

fn names(wishes: &[Wish]) -> String {
    let mut names = wishes.iter().take(5).map(Wish::shown).collect::<Vec<_>>().join(", ");
    if wishes.len() > 5 {
        names.push_str(&format!(" and {} more", wishes.len() - 5));
    }
    names
}
