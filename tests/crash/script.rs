//! A sequence of calls, each made again until it succeeds, with a plugin that may die under any of them.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tonic::{Code, Status};

use super::leftovers::{self, Checked};
use super::support::image::{self, Built};
use super::support::plugin::{Kubelet, Plugin, Settings, Wish, inline_handle};

/// One call, or what the pod does in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Publish,
    PublishAgain,
    PublishPulling,
    /// The image is in an additional store.
    PublishBringing,
    Write,
    Read,
    Unpublish,
    Create,
    PublishCreated,
    UnpublishCreated,
    Delete,
}

const NOTE: &str = "written by the pod\n";

/// A plugin, whoever asks it, and what is known of its volumes.
#[derive(Debug)]
pub struct Play<'a> {
    settings: Settings,
    plugin: Option<Plugin>,
    kubelet: Kubelet,
    reference: &'a str,
    checked: &'a Checked,
    created: Option<(String, Vec<(String, String)>)>,
    target: PathBuf,
    /// Whether the plugin has died.
    pub has_died: bool,
    has_written: bool,
}

impl<'a> Play<'a> {
    /// Starts the plugin with the fault of `environment`; it may die while it starts.
    pub fn new(
        settings: &Settings,
        environment: Vec<(String, String)>,
        reference: &'a str,
        checked: &'a Checked,
    ) -> Self {
        let mut faulty = settings.clone();
        faulty.environment.extend(environment);
        let mut play = Self {
            plugin: Some(Plugin::spawn(&faulty)),
            settings: settings.clone(),
            kubelet: Kubelet::connect(&settings.socket),
            reference,
            checked,
            created: None,
            target: settings.target("pod", "data"),
            has_died: false,
            has_written: false,
        };
        play.wait_until_ready();
        play
    }

    /// The plugin's process.
    pub fn process(&self) -> u32 {
        self.plugin.as_ref().expect("a plugin runs").process()
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            self.revive();
            let plugin = self.plugin.as_ref().expect("a plugin runs");
            if plugin.is_ready() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "the plugin does not get ready:\n{}",
                self.settings.log_text()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Starts a plugin without fault in place of one that has died.
    fn revive(&mut self) {
        let has_ended = self.plugin.as_mut().is_none_or(Plugin::has_ended);
        if has_ended {
            assert!(
                !self.has_died,
                "the plugin died without a fault:\n{}",
                self.settings.log_text()
            );
            self.has_died = true;
            // As it was left, before another plugin puts it right.
            leftovers::assert_uppers_mounted_once(&self.settings);
            leftovers::check_remains_by_the_peer(&self.settings, self.checked);
            self.plugin = Some(Plugin::spawn(&self.settings));
        }
    }

    /// Makes the step succeed, as the kubelet and the sidecars do: again and again. Only what asks for that may fail:
    /// that the plugin died, or that it is not ready or still at it.
    pub fn carry_out(&mut self, step: Step, built: &Built) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match self.try_once(step, built) {
                Ok(()) => return,
                Err(status) => assert!(
                    Instant::now() < deadline && self.may_be_retried(&status),
                    "{step:?} does not succeed: {status:?}\n{}",
                    self.settings.log_text()
                ),
            }
            leftovers::assert_uppers_mounted_once(&self.settings);
            std::thread::sleep(Duration::from_millis(1));
            self.wait_until_ready();
        }
    }

    fn may_be_retried(&mut self, status: &Status) -> bool {
        if matches!(status.code(), Code::Aborted | Code::Unavailable) {
            return true;
        }
        // The connection of a call breaks a moment before its process is gone.
        let deadline = Instant::now() + Duration::from_secs(1);
        while Instant::now() < deadline {
            if self.plugin.as_mut().is_none_or(Plugin::has_ended) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    fn try_once(&mut self, step: Step, built: &Built) -> Result<(), Status> {
        match step {
            Step::Publish | Step::PublishAgain | Step::PublishPulling | Step::PublishBringing => {
                self.kubelet.publish(&self.inline())?;
                self.look(built);
            }
            Step::PublishCreated => {
                let (volume, context) = self.created.clone().expect("the volume was created");
                let mut wish = Wish::inline(&volume, &self.target, None);
                wish.attributes = context.into_iter().collect();
                self.kubelet.publish(&wish)?;
                self.look(built);
            }
            Step::Write => {
                fs::write(self.target.join("note"), NOTE).expect("the pod can write");
                self.has_written = true;
            }
            Step::Read => self.look(built),
            Step::Unpublish => {
                let wish = self.inline();
                self.kubelet.unpublish(&wish.volume, &wish.target)?;
                self.is_gone();
                self.has_written = false;
            }
            Step::UnpublishCreated => {
                let (volume, _) = self.created.clone().expect("the volume was created");
                self.kubelet.unpublish(&volume, &self.target)?;
                self.is_gone();
            }
            Step::Create => {
                let volume = self
                    .kubelet
                    .create("claim-one", &[("image", self.reference)])?;
                self.created = Some((
                    volume.volume_id,
                    volume.volume_context.into_iter().collect(),
                ));
            }
            Step::Delete => {
                let (volume, _) = self.created.clone().expect("the volume was created");
                self.kubelet.delete(&volume)?;
                self.has_written = false;
            }
        }
        Ok(())
    }

    fn inline(&self) -> Wish {
        Wish::inline(&inline_handle("crash"), &self.target, Some(self.reference))
    }

    /// The target shows the image, and what the pod has written.
    fn look(&self, built: &Built) {
        let read = |name: &str| {
            let path = self.target.join(name);
            fs::read(&path).unwrap_or_else(|error| {
                panic!(
                    "read {} of {}: {error}\n{}",
                    path.display(),
                    built.id,
                    self.settings.log_text()
                )
            })
        };
        assert_eq!(read("data/greeting"), b"hello from layer two\n");
        assert_eq!(read("data/added"), b"added by layer three\n");
        assert_eq!(
            image::hex(&read("bin/busybox")),
            image::hex(&image::busybox())
        );
        if self.has_written {
            assert_eq!(read("note"), NOTE.as_bytes(), "what the pod wrote is there");
        }
    }

    fn is_gone(&self) {
        assert!(!self.target.exists(), "the target is gone");
    }

    /// Ends the plugin in peace; whether it has died, at the latest by that.
    pub fn finish(mut self) -> bool {
        // What a dead plugin was removing is removed by the next one, in its own time.
        let staging = self.settings.graph.join("strata/staging");
        let deadline = Instant::now() + Duration::from_secs(5);
        while leftovers::has_staged(&staging) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
            self.wait_until_ready();
        }
        let plugin = self.plugin.take().expect("a plugin runs");
        let is_killed = plugin.stop() == -1;
        assert!(
            !(self.has_died && is_killed),
            "the plugin died without a fault:\n{}",
            self.settings.log_text()
        );
        self.has_died || is_killed
    }
}
