//! A process after the other carries out a plan in the grammar of containers-storage.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::plan::{Action, CONTAINER, IMAGE, Operation};
use super::program::{self, Ended};
use super::support::image;

/// One of the eight: its program, its folder, and the store.
#[derive(Clone, Debug)]
pub struct Lane {
    pub name: String,
    pub program: PathBuf,
    /// What comes before the command.
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub folder: PathBuf,
    pub archives: Vec<PathBuf>,
}

/// What a lane has done.
#[derive(Debug, Default)]
pub struct Done {
    pub operations: usize,
    pub kills: usize,
    pub complaints: Vec<String>,
}

impl Lane {
    /// Runs the program with `arguments`.
    ///
    /// # Errors
    /// When it does not end.
    pub fn call(&self, arguments: &[&str], kill: Option<usize>) -> Result<Ended, String> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .args(arguments)
            .envs(self.environment.iter().cloned());
        if let Some(at) = kill {
            command.env("STRATA_FAULT", format!("kill-before:{at}"));
        }
        program::run(command, &self.folder)
    }

    /// Runs it, and complains unless it succeeds.
    ///
    /// # Errors
    /// What went wrong.
    pub fn ok(&self, arguments: &[&str]) -> Result<Ended, String> {
        let ended = self.call(arguments, None)?;
        if ended.code == Some(0) {
            return Ok(ended);
        }
        Err(self.complaint(arguments, &ended))
    }

    fn complaint(&self, arguments: &[&str], ended: &Ended) -> String {
        let (text, error) = (ended.text(), ended.error.trim());
        format!(
            "{}: {} ended with {:?}: {text} {error}",
            self.name,
            arguments.join(" "),
            ended.code
        )
    }

    /// Carries out the plan until it is done or too much went wrong.
    pub fn carry_out(&self, plan: &[Operation]) -> Done {
        let mut done = Done::default();
        for (number, operation) in plan.iter().enumerate() {
            match self.perform(operation) {
                Ok(was_killed) => done.kills += usize::from(was_killed),
                Err(complaint) => {
                    let complaint = format!("{complaint} (operation {number})");
                    done.complaints.push(complaint);
                }
            }
            done.operations += 1;
            if done.complaints.len() >= 3 {
                break;
            }
        }
        done
    }

    /// Whether the command was killed first.
    fn perform(&self, operation: &Operation) -> Result<bool, String> {
        let words = self.words(&operation.action);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut was_killed = false;
        if operation.kill.is_some() {
            let ended = self.call(&words, operation.kill)?;
            was_killed = ended.was_killed;
            if !was_killed {
                // It made fewer calls: it is done.
                self.judge(&operation.action, &words, &ended)?;
                return self.settle(&operation.action).map(|()| false);
            }
        }
        let ended = self.call(&words, None)?;
        if was_killed && ended.code != Some(0) && self.is_excused(&operation.action, &ended) {
            if let Action::DeleteImage { layers, .. } = &operation.action {
                // The image's record goes first; then nothing leads to its layers but their own IDs.
                for layer in layers {
                    self.call(&["delete-layer", layer], None)?;
                }
            }
            return Ok(true);
        }
        self.judge(&operation.action, &words, &ended)?;
        self.settle(&operation.action)?;
        Ok(was_killed)
    }

    /// A command that was killed had done its work.
    fn is_excused(&self, action: &Action, ended: &Ended) -> bool {
        let said = format!("{} {}", ended.text(), ended.error);
        let has = |word: &str| said.contains(word);
        match action {
            Action::CreateLayer { .. }
            | Action::ImportLayer { .. }
            | Action::CreateImage { .. }
            | Action::CreateContainer { .. } => has("already in use"),
            Action::DeleteContainer { .. }
            | Action::DeleteImage { .. }
            | Action::DeleteLayer { .. } => has("identifier is not"),
            _ => false,
        }
    }

    fn words(&self, action: &Action) -> Vec<String> {
        let line = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let file = |text: &str| {
            let path = self.folder.join("value");
            fs::write(&path, text).expect("a value can be written");
            path.to_str().expect("UTF-8").to_owned()
        };
        match action {
            Action::CreateLayer { id, parent } => line(&["create-layer", "-i", id, parent]),
            Action::ImportLayer {
                id,
                parent,
                file: number,
            } => {
                let archive = self.archives[*number].to_str().expect("UTF-8");
                line(&["import-layer", "-i", id, "-f", archive, parent])
            }
            Action::CreateImage { id, name, layer } => {
                line(&["create-image", "-i", id, "-n", name, layer])
            }
            Action::CreateContainer { id, name, image } => {
                line(&["create-container", "-i", id, "-n", name, image])
            }
            Action::AddName { object, name } => line(&["add-names", "-n", name, object]),
            Action::RemoveName { object, name } => line(&["remove-names", "-n", name, object]),
            Action::SetMetadata { object, text } => line(&["set-metadata", "-m", text, object]),
            Action::SetImageData { object, key, value } => {
                line(&["set-image-data", "-f", &file(value), object, key])
            }
            Action::SetContainerData { object, key, value } => {
                line(&["set-container-data", "-f", &file(value), object, key])
            }
            Action::GetContainerData { object, key, .. } => {
                line(&["get-container-data", object, key])
            }
            Action::MountAndWrite { container, .. } | Action::MountAndForce { container } => {
                line(&["mount", container])
            }
            Action::MountShared => line(&["mount", CONTAINER]),
            Action::Unmount { container } => line(&["unmount", container]),
            Action::DeleteContainer { id } => line(&["delete-container", id]),
            Action::DeleteImage { id, .. } => line(&["delete-image", id]),
            Action::DeleteLayer { id } => line(&["delete-layer", id]),
            Action::Diff { layer, .. } => {
                let out = self.folder.join("diff");
                line(&["diff", "-u", "-f", out.to_str().expect("UTF-8"), layer])
            }
            Action::Exists { id, .. } => line(&["exists", id]),
            Action::ListLayers => line(&["layers", "--json"]),
            Action::Collect => line(&["gc"]),
        }
    }

    /// Whether what a command answered is right.
    fn judge(&self, action: &Action, words: &[&str], ended: &Ended) -> Result<(), String> {
        let bad = |what: &str| Err(format!("{what}: {}", self.complaint(words, ended)));
        let wanted = match action {
            Action::Exists {
                is_there: false, ..
            } => 1,
            _ => 0,
        };
        if ended.code != Some(wanted) {
            return bad("failed");
        }
        match action {
            Action::GetContainerData { value, .. } if ended.text() != *value => {
                bad("the data is not what was set")
            }
            Action::Diff { file, .. } => {
                let read = |path: &Path| fs::read(path).unwrap_or_default();
                let out = read(&self.folder.join("diff"));
                if image::hex(&out) == image::hex(&read(&self.archives[*file])) {
                    return Ok(());
                }
                bad("the layer does not come out as it went in")
            }
            Action::MountShared if !Path::new(&ended.text()).join("shared").is_file() => {
                bad("the shared container shows nothing")
            }
            Action::MountAndWrite { note, .. } => {
                let place = PathBuf::from(ended.text());
                if !place.join("shared").is_file() {
                    return bad("the container shows nothing");
                }
                match fs::write(place.join("note"), note) {
                    Ok(()) => Ok(()),
                    Err(error) => bad(&format!("the note can't be written: {error}")),
                }
            }
            _ => Ok(()),
        }
    }

    /// What belongs to a command and comes after it.
    fn settle(&self, action: &Action) -> Result<(), String> {
        let Action::MountAndForce { container } = action else {
            return Ok(());
        };
        self.ok(&["unmount", "--force", container])?;
        let mounted = self.call(&["mounted", container], None)?.text();
        if mounted.contains("mounted") {
            return Err(format!("{}: still mounted: {mounted}", self.name));
        }
        Ok(())
    }
}

/// The names that everybody uses exist.
pub fn shared_is_there(lane: &Lane) -> Result<(), String> {
    lane.ok(&["exists", IMAGE, CONTAINER]).map(drop)
}
