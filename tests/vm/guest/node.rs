//! A node: the plugin with its store on one of the disks, and the kubelet that asks it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::disk::Kind;
use super::images;
use super::ledger::{Claim, Inline, Ledger, Pull};
use super::place;
use super::power;
use crate::support::plugin::{Kubelet, Plugin, Settings, Wish, inline_handle};
use crate::support::tool::{Ran, Tool};

/// What a pod writes into its inline volume.
const DIARY: &str = "diary";
const ENTRY: &str = "written and never synced\n";

/// What a reboot does to the files of an inline volume.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    Kept,
    Anew,
    /// As [`Fate::Anew`]; and what was acknowledged just before the cut may have been forgotten altogether, as nothing of
    /// an inline volume is synced but the bytes of its record.
    Torn,
}

pub struct Node {
    pub kind: Kind,
    pub settings: Settings,
    pub kubelet: Kubelet,
    pub ledger: Ledger,
    plugin: Option<Plugin>,
}

impl Node {
    /// Mounts the disk and looks at nothing yet.
    pub fn on(kind: Kind) -> Self {
        let log = format!("plugin-{}-{}.log", kind.name(), power::boot());
        Self::at(kind, &kind.mount(), &log, Ledger::open(kind))
    }

    /// With the store in `folder`; the plugin's log has that name.
    pub fn at(kind: Kind, folder: &Path, log: &str, ledger: Ledger) -> Self {
        let mut settings = Settings::below(folder, &place::at("/in/strata"));
        // Gone after a boot, as on any system.
        settings.run = place::at("/run/strata").join(kind.name());
        fs::create_dir_all(&settings.run).expect("a run root can be made");
        settings.socket = settings.run.join("csi.sock");
        settings.log = place::at("/out").join(log);
        Self {
            kind,
            kubelet: Kubelet::connect(&settings.socket),
            settings,
            ledger,
            plugin: None,
        }
    }

    pub fn start(&mut self) {
        self.plugin = Some(Plugin::start(&self.settings));
        // The connection to an earlier one is broken.
        self.kubelet = Kubelet::connect(&self.settings.socket);
    }

    /// The plugin ends in peace, and volumes stay published.
    pub fn stop(&mut self, signal: Signal) {
        let code = self.plugin.take().expect("a plugin runs").stop_by(signal);
        assert_eq!(code, 0, "the plugin ends in peace");
    }

    /// A command of Strata on the store.
    pub fn command(&self, arguments: &[&str]) -> Tool {
        Tool::at(&self.settings.binary)
            .args(self.settings.store_arguments())
            .args(arguments)
    }

    pub fn strata(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).ok()
    }

    /// How the kubelet asks for an inline volume.
    pub fn inline(&self, inline: &Inline) -> Wish {
        let target = self.target(&inline.name);
        Wish::inline(
            &inline_handle(&inline.name),
            &target,
            inline.image.as_deref(),
        )
    }

    fn target(&self, name: &str) -> PathBuf {
        self.settings.target(name, "data")
    }

    #[track_caller]
    pub fn publish(&self, wish: &Wish) {
        let published = self.kubelet.publish(wish);
        assert!(
            published.is_ok(),
            "publish {}: {published:?}\n{}",
            wish.volume,
            self.settings.log_text()
        );
    }

    #[track_caller]
    pub fn unpublish(&self, wish: &Wish) {
        let gone = self.kubelet.unpublish(&wish.volume, &wish.target);
        assert!(
            gone.is_ok(),
            "unpublish {}: {gone:?}\n{}",
            wish.volume,
            self.settings.log_text()
        );
        assert!(!wish.target.exists(), "the target is gone");
    }

    /// Creates a claim's volume of the small image; acknowledged when this returns.
    pub fn create_claim(&mut self, name: &str) -> Claim {
        self.ledger.note(|ledger| {
            if !ledger.wanted.iter().any(|wanted| wanted == name) {
                ledger.wanted.push(name.to_owned());
            }
        });
        let volume = self
            .kubelet
            .create(name, &[("image", images::SITE)])
            .unwrap_or_else(|status| {
                panic!("create {name}: {status:?}\n{}", self.settings.log_text())
            });
        let claim = Claim {
            name: name.to_owned(),
            volume: volume.volume_id,
            context: volume.volume_context,
            note: None,
            writing: None,
            is_going: false,
        };
        self.ledger.note(|ledger| {
            ledger.wanted.retain(|wanted| wanted != name);
            ledger.claims.push(claim.clone());
        });
        claim
    }

    /// How the kubelet asks for a claim's volume.
    pub fn wish_of(&self, claim: &Claim) -> Wish {
        let mut wish = Wish::inline(&claim.volume, &self.target(&claim.name), None);
        wish.attributes.clone_from(&claim.context);
        wish
    }

    /// Publishes a claim's volume, replaces a file in it and syncs that, as a pod that cares for its data.
    pub fn write_claim(&mut self, claim: &Claim, note: &str) {
        let wish = self.wish_of(claim);
        self.publish(&wish);
        self.ledger
            .note(|ledger| ledger.claim(&claim.name).writing = Some(note.to_owned()));
        let (path, new) = (wish.target.join("note"), wish.target.join("note.new"));
        File::create(&new)
            .and_then(|mut file| {
                file.write_all(note.as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&new, &path))
            .and_then(|()| power::sync_folder(&wish.target))
            .unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
        self.ledger.note(|ledger| {
            let claim = ledger.claim(&claim.name);
            claim.note = claim.writing.take();
        });
    }

    /// Publishes a claim's volume; what its pod has synced is there, over the image.
    pub fn read_claim(&self, claim: &Claim) {
        let wish = self.wish_of(claim);
        self.publish(&wish);
        assert_site(&wish.target);
        if let Some(note) = &claim.note {
            let path = wish.target.join("note");
            let found = fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
            assert!(
                found == *note || Some(&found) == claim.writing.as_ref(),
                "what {} has synced is there: {note:?}, not {found:?}",
                claim.name
            );
        }
    }

    /// Unpublishes and deletes a claim's volume.
    pub fn delete_claim(&mut self, claim: &Claim) {
        self.ledger
            .note(|ledger| ledger.claim(&claim.name).is_going = true);
        let wish = self.wish_of(claim);
        self.unpublish(&wish);
        self.kubelet
            .delete(&claim.volume)
            .unwrap_or_else(|status| panic!("delete {}: {status:?}", claim.name));
        self.ledger
            .note(|ledger| ledger.claims.retain(|kept| kept.name != claim.name));
    }

    /// Publishes an inline volume and writes into it, without any sync.
    pub fn write_inline(&mut self, name: &str, image: Option<&str>) {
        let inline = Inline {
            name: name.to_owned(),
            image: image.map(str::to_owned),
        };
        if !self.ledger.inline.iter().any(|known| known.name == name) {
            self.ledger
                .note(|ledger| ledger.inline.push(inline.clone()));
        }
        let wish = self.inline(&inline);
        self.publish(&wish);
        fs::write(wish.target.join(DIARY), ENTRY).expect("the pod can write");
    }

    /// Publishes an inline volume after a reboot: it has what its pod wrote, or is as its image is, and the log tells
    /// which.
    pub fn find_inline(&self, inline: &Inline, fate: Fate) {
        let wish = self.inline(inline);
        let records = self.strata(&["containers", "--json"]).text();
        let is_known = records.contains(&wish.volume);
        self.publish(&wish);
        match inline.image.as_deref() {
            None => {}
            Some(images::SITE) => assert_site(&wish.target),
            Some(large) => images::assert_whole(&wish.target, images::number(large), "registry"),
        }
        let found = fs::read_to_string(wish.target.join(DIARY)).ok();
        let (expected, reason) = match fate {
            Fate::Kept => (Some(ENTRY), "VolumeKept"),
            Fate::Anew | Fate::Torn => (None, "VolumeStartedAnew"),
        };
        assert_eq!(found.as_deref(), expected, "the diary of {}", inline.name);
        let log = self.settings.log_text();
        let tells = |line: &str| line.contains(&wish.volume) && line.contains(reason);
        let may_be_silent = matches!(fate, Fate::Torn) && !is_known;
        assert!(
            may_be_silent || log.lines().any(tells),
            "the log does not tell {reason} of {}:\n{log}",
            inline.name
        );
    }

    /// Unpublishes an inline volume, with which it is gone.
    pub fn end_inline(&mut self, name: &str) {
        let found = self.ledger.inline.iter().find(|known| known.name == name);
        let ended = found
            .unwrap_or_else(|| panic!("no inline volume {name}"))
            .clone();
        self.unpublish(&self.inline(&ended));
        self.ledger.note(|ledger| {
            ledger.inline.retain(|inline| inline.name != name);
            ledger.ended.push(ended);
        });
    }

    /// Begins to pull a large image by the command.
    pub fn spawn_pull(&mut self, number: u32) -> Child {
        self.ledger.note(|ledger| {
            ledger.pulls.push(Pull {
                number,
                image: None,
            });
        });
        Command::new(&self.settings.binary)
            .args(self.settings.store_arguments())
            .args(["pull", "--quiet", &images::in_layout(number)])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("strata can be run")
    }

    /// Waits for it to succeed.
    pub fn acknowledge_pull(&mut self, command: Child, number: u32) {
        let output = command
            .wait_with_output()
            .expect("strata can be waited for");
        assert!(output.status.success(), "strata pull: {output:?}");
        let image = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        self.ledger.note(|ledger| {
            let pull = ledger.pulls.iter_mut().find(|pull| pull.number == number);
            pull.expect("a pull that was begun").image = Some(image);
        });
    }

    /// What was pulled by the command is whole; what was not is pulled now. Then the image goes.
    pub fn repeat(&mut self, pull: &Pull) {
        if let Some(image) = &pull.image {
            self.assert_image(image, pull.number);
        }
        let image = self
            .strata(&["pull", "--quiet", &images::in_layout(pull.number)])
            .last_line();
        self.assert_image(&image, pull.number);
        self.strata(&["delete-image", &image]);
        self.ledger
            .note(|ledger| ledger.pulls.retain(|known| known.number != pull.number));
    }

    fn assert_image(&self, image: &str, number: u32) {
        let root = self.strata(&["mount", "--read-only", image]).last_line();
        images::assert_whole(Path::new(&root), number, "layout");
        self.strata(&["unmount", image]);
    }
}

/// The small image's files are there.
pub fn assert_site(root: &Path) {
    let read = |name: &str| {
        let path = root.join(name);
        fs::read(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
    };
    assert_eq!(read("data/greeting"), b"hello from layer two\n");
    assert_eq!(read("data/added"), b"added by layer three\n");
    assert_eq!(read("data/large"), vec![b'x'; 300_000]);
    assert!(read("bin/busybox") == fs::read("/bin/busybox").expect("busybox can be read"));
    assert!(!root.join("data/removed").exists());
}
