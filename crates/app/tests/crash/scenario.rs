//! What is cut: three deployments on one machine with several packages that depend on each other, each ready to
//! begin on the image of a disk. One succeeds, one fails and undoes itself, one is undone on order.

use crate::agent_server::{Server, World, now};
use crate::cut::{self, Point};
use crate::judge::{Portrait, portrait};
use crate::machine::{Machine, STATE};
use crate::support::{Testbed, package_repository};
use fettle_domain::RehearsalId;
use fettle_domain::machine::DeploymentState;
use fettle_domain::package::Ecosystem;
use fettle_domain::plan::{Job, Manifest, RehearsalOutcome, WantedPackage, WantedVersion};
use fettle_wire::agent::{HostFacts, ReportBody, ReportEntry, SectionDigests, Service, WorkItem};
use fettle_wire::offer::{Offer, OfferAction};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Packages of a machine, in all their versions: name, version, fields, files.
type Package<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, &'a str)]);
const PACKAGES: [Package<'_>; 9] = [
    ("own-lib", "1.0-1", "", &[("/usr/lib/own/lib", "1\n")]),
    ("own-lib", "2.0-1", "", &[("/usr/lib/own/lib", "2\n")]),
    ("own-new", "1.0-1", "", &[("/etc/own-new.cfg", "new\n")]),
    ("own-gone", "1.0-1", "", &[("/etc/own-gone.cfg", "gone\n"), ("/usr/lib/own/gone", "gone\n")]),
    ("own-held", "1.0-1", "", &[]),
    ("own-held", "2.0-1", "", &[]),
    ("own-app", "1.0-1", "Depends: own-lib (= 1.0-1)\n", &[("/etc/own/a.cfg", "1\n"), ("/usr/lib/own/app", "1\n")]),
    (
        "own-app",
        "2.0-1",
        "Depends: own-lib (= 2.0-1), own-new\nConflicts: own-gone\n",
        &[
            ("/etc/own/a.cfg", "2\n"),
            ("/etc/own/b.cfg", "2\n"),
            ("/usr/lib/own/app", "2\n"),
            (
                "postinst",
                "#!/bin/sh\necho 'own-app: migrating' ; cat /etc/own/fill 2>/dev/null | xargs -r -I{} dd if=/dev/zero of={} bs=4k 2>/dev/null ; exit 0\n",
            ),
        ],
    ),
    (
        "own-app",
        "3.0-1",
        "Depends: own-lib (= 2.0-1), own-new\nConflicts: own-gone\n",
        &[
            ("/etc/own/a.cfg", "3\n"),
            ("/etc/own/b.cfg", "3\n"),
            ("postinst", "#!/bin/sh\necho 'own-app: cannot migrate' >&2 ; exit 7\n"),
        ],
    ),
];
/// How those that are installed came: asked for, or along.
const INSTALLED: [&str; 4] = ["own-app=1.0-1", "own-lib=1.0-1", "own-gone=1.0-1", "own-held=1.0-1"];
const AUTOMATIC: [&str; 2] = ["own-lib", "own-gone"];

/// What a server knew at some moment.
#[derive(Clone, Default)]
pub struct Known {
    facts: Option<HostFacts>,
    services: Option<Vec<Service>>,
    packages: Option<Vec<fettle_domain::package::InstalledPackage>>,
    digests: SectionDigests,
    items: Vec<WorkItem>,
    entries: Vec<ReportEntry>,
}

impl Known {
    fn of(world: &World) -> Self {
        Self {
            facts: world.facts.clone(),
            services: world.services.clone(),
            packages: world.packages.clone(),
            digests: world.digests.clone(),
            items: world.items.clone(),
            entries: world.entries.clone(),
        }
    }

    /// Reports that came before those of the deployment.
    fn told_before(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.body, ReportBody::Rehearsal { .. })).count()
    }

    /// Makes the server know this and nothing else.
    pub fn restore(&self, server: &Server) {
        let known = self.clone();
        server.with(|world| {
            *world = World {
                facts: known.facts,
                services: known.services,
                packages: known.packages,
                digests: known.digests,
                items: known.items,
                entries: known.entries,
                cursor: 1,
                ..World::default()
            };
        });
    }
}

/// A deployment that is about to go on.
pub struct Scenario {
    pub name: &'static str,
    pub image: PathBuf,
    pub known: Known,
    /// Reports that the server had before the deployment.
    pub told_before: usize,
    /// How the machine was before the deployment.
    pub before: Portrait,
    /// How it is after a success; `None` when there can be none.
    pub after: Option<Portrait>,
    /// Ends that are right.
    pub ends: &'static [DeploymentState],
    /// Every call of a run that is not cut.
    pub points: Vec<Point>,
}

/// A server and its scenarios.
pub struct Lane {
    pub folder: PathBuf,
    pub testbed: &'static Testbed,
    pub server: Server,
    pub scenarios: Vec<Scenario>,
}

/// Deployment that all scenarios are about.
const DEPLOYMENT: u8 = 1;

impl Lane {
    /// Prepares all of it.
    pub fn new(folder: &Path, testbed: &'static Testbed) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let mut lane = Self { folder: folder.to_owned(), testbed, server: Server::start(), scenarios: Vec::new() };
        let (good, bad) = lane.make_base();
        let before = lane.on("base.img", |machine| portrait(&machine.root()));
        let base = Known::of(&lane.server.with(std::mem::take));
        use DeploymentState as S;
        for (name, manifest) in [("success", good.clone()), ("failure", bad)] {
            base.restore(&lane.server);
            let offer = lane.offer(OfferAction::Deploy, 1, manifest);
            lane.take(
                &offer,
                Machine::of_image(&lane.folder.join("making"), testbed, &lane.folder.join("base.img")),
                name,
            );
            let ends: &[S] =
                if name == "success" { &[S::Succeeded, S::Undone, S::Failed] } else { &[S::Undone, S::Failed] };
            lane.add(name, &before, ends);
        }
        // Deployed already, and the order to undo it is there.
        lane.scenarios[0].known.restore(&lane.server);
        let mut machine = Machine::of_image(&lane.folder.join("making"), testbed, &lane.scenarios[0].image);
        machine.boot();
        assert_eq!(machine.agent_once(), Some(0), "{}", machine.logged());
        let after = portrait(&machine.root());
        assert_ne!(after, before);
        machine.kill();
        let undo = lane.offer(OfferAction::Undo, 2, good);
        lane.take(&undo, machine, "undo");
        lane.scenarios[0].after = Some(after);
        lane.add("undo", &before, &[S::Undone]);
        lane
    }

    fn on<T>(&self, image: &str, act: impl FnOnce(&Machine) -> T) -> T {
        let mut machine = Machine::of_image(&self.folder.join("making"), self.testbed, &self.folder.join(image));
        machine.boot();
        act(&machine)
    }

    /// The machine with its packages, enrolled, and the two plans that dry runs made.
    fn make_base(&self) -> (Manifest, Manifest) {
        let mut machine = Machine::new(&self.folder.join("making"), self.testbed);
        // A real machine syncs what it unpacks.
        let _ = std::fs::remove_file(machine.path("/etc/dpkg/dpkg.cfg.d/fettle-demo"));
        package_repository(&machine.root(), &self.folder.join("tree"), &PACKAGES);
        for list in std::fs::read_dir(machine.path("/etc/apt/sources.list.d")).unwrap().flatten() {
            if list.file_name() != "own.list" {
                std::fs::remove_file(list.path()).unwrap();
            }
        }
        machine.boot();
        machine.inside(&["apt-get", "update", "-qq"]);
        machine.inside(&[&["apt-get", "install", "-y", "-qq"][..], &INSTALLED].concat());
        machine.inside(&[&["apt-mark", "auto"][..], &AUTOMATIC].concat());
        machine.inside(&["apt-mark", "hold", "own-held"]);
        std::fs::write(machine.path("/etc/own/a.cfg"), "edited\n").unwrap();
        std::fs::write(machine.path("/etc/own-gone.cfg"), "edited\n").unwrap();
        let (address, token) = (self.server.address(), self.server.token());
        machine.inside(&["fettle", "agent", "enrol", "--server", &address, "--token", &token, "--state", STATE]);
        let rehearse = |id: u8, version: &str| WorkItem::Rehearse {
            rehearsal: RehearsalId::new(u64::from(id), [id; 10]),
            job: Job {
                ecosystem: Ecosystem::Debian,
                wanted: vec![WantedPackage {
                    name: "own-app".to_owned(),
                    version: WantedVersion::Exactly { version: version.to_owned() },
                }],
                allow_removals: true,
            },
        };
        self.server.give(vec![rehearse(1, "2.0-1"), rehearse(2, "3.0-1")]);
        assert_eq!(machine.agent_once(), Some(0), "{}", machine.logged());
        let answers = self.server.with(|world| world.entries.clone());
        let manifests = answers.iter().filter_map(|entry| match &entry.body {
            ReportBody::Rehearsal { outcome: RehearsalOutcome::Possible { manifest, .. }, .. } => {
                Some(manifest.clone())
            }
            _ => None,
        });
        let [good, bad]: [Manifest; 2] = manifests.collect::<Vec<_>>().try_into().expect("two dry runs");
        assert_eq!(good.steps.len(), 4, "{good:?}");
        machine.save(&self.folder.join("base.img"));
        (good, bad)
    }

    fn offer(&self, action: OfferAction, sequence: u64, manifest: Manifest) -> Offer {
        let mut offer = self.server.offer(action, DEPLOYMENT, sequence, manifest);
        // In a moment: the agent takes the order and ends before it is due.
        offer.window_start = now().after(Duration::from_secs(4));
        offer.window_end = now().after(Duration::from_secs(24 * 3600));
        offer.expires = offer.window_end;
        offer
    }

    /// The agent takes the order and ends; the disk is kept as the image of that name.
    fn take(&self, offer: &Offer, mut machine: Machine, name: &str) {
        let mut items = self.server.with(|world| std::mem::take(&mut world.items));
        items.retain(|item| matches!(item, WorkItem::Offer { .. }));
        items.push(self.server.sign(offer));
        self.server.give(items);
        machine.boot();
        assert_eq!(machine.agent_once(), Some(0), "{}", machine.logged());
        assert!(now() < offer.window_start, "the machine is too slow for this test");
        machine.inside(&["sync"]);
        machine.save(&self.folder.join(format!("{name}.img")));
        crate::support::wait_for("the window", || now() >= offer.window_start);
    }

    /// Watches one whole run of it.
    fn add(&mut self, name: &'static str, before: &Portrait, ends: &'static [DeploymentState]) {
        let image = self.folder.join(format!("{name}.img"));
        let known = Known::of(&self.server.with(std::mem::take));
        known.restore(&self.server);
        let mut machine = Machine::of_image(&self.folder.join("making"), self.testbed, &image);
        machine.boot();
        let points = cut::watch(&machine, &self.folder.join("watched"));
        assert!(points.len() > 300, "{} points; {}", points.len(), machine.logged());
        drop(machine);
        self.scenarios.push(Scenario {
            name,
            image,
            told_before: known.told_before(),
            known,
            before: before.clone(),
            after: None,
            ends,
            points,
        });
    }

    /// A fresh machine that stands where this scenario begins, switched on.
    pub fn machine(&self, scenario: &Scenario, number: usize) -> Machine {
        let folder = self.folder.join(format!("run-{number}"));
        let mut machine = Machine::of_image(&folder, self.testbed, &scenario.image);
        scenario.known.restore(&self.server);
        machine.boot();
        machine
    }
}
