//! What a process of Strata or containers-storage does, one command after the other, and what of it must be there in the
//! end.

use std::collections::{BTreeMap, BTreeSet};

use super::random::Random;
use super::support::image;

/// The names by which all know what they share.
pub const IMAGE: &str = "localhost/shared:1";
pub const CONTAINER: &str = "shared-container";

/// How many things of a kind a lane keeps at a time.
const KEPT: usize = 10;

/// One command.
#[derive(Clone, Debug)]
pub enum Action {
    CreateLayer {
        id: String,
        parent: String,
    },
    ImportLayer {
        id: String,
        parent: String,
        file: usize,
    },
    CreateImage {
        id: String,
        name: String,
        layer: String,
    },
    CreateContainer {
        id: String,
        name: String,
        image: String,
    },
    AddName {
        object: String,
        name: String,
    },
    RemoveName {
        object: String,
        name: String,
    },
    SetMetadata {
        object: String,
        text: String,
    },
    SetImageData {
        object: String,
        key: String,
        value: String,
    },
    SetContainerData {
        object: String,
        key: String,
        value: String,
    },
    GetContainerData {
        object: String,
        key: String,
        value: String,
    },
    /// Mounts a container of its own and writes a note into it.
    MountAndWrite {
        container: String,
        note: String,
    },
    /// The same of a process that is killed; whatever its count is then, it is taken down by force.
    MountAndForce {
        container: String,
    },
    MountShared,
    Unmount {
        container: String,
    },
    DeleteContainer {
        id: String,
    },
    /// `layers` go with it, from the top down.
    DeleteImage {
        id: String,
        layers: Vec<String>,
    },
    DeleteLayer {
        id: String,
    },
    /// The layer comes out as it went in.
    Diff {
        layer: String,
        file: usize,
    },
    Exists {
        id: String,
        is_there: bool,
    },
    ListLayers,
    Collect,
}

/// A command, and at which of its changing calls it is killed first.
#[derive(Clone, Debug)]
pub struct Operation {
    pub action: Action,
    pub kill: Option<usize>,
}

/// What an image or container must be in the end.
#[derive(Clone, Debug, Default)]
pub struct Object {
    pub names: BTreeSet<String>,
    pub data: BTreeMap<String, String>,
    pub metadata: String,
    /// Of images: the top layer. Of containers: the image.
    pub over: String,
    pub note: Option<String>,
    pub mounts: usize,
}

/// What there must be in the end.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// With the archives that they were imported from.
    pub layers: BTreeMap<String, (String, Option<usize>)>,
    pub images: BTreeMap<String, Object>,
    pub containers: BTreeMap<String, Object>,
    /// Of the shared image and the shared container.
    pub shared_names: BTreeSet<String>,
    pub shared_image_data: BTreeMap<String, String>,
    pub shared_container_data: BTreeMap<String, String>,
    pub shared_mounts: usize,
}

/// Who carries a plan out, as far as that matters to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grammar {
    Strata,
    Newest,
    /// It cannot take away names, nor remove garbage.
    Old,
}

/// The planner of one lane.
#[derive(Debug)]
pub struct Planner {
    lane: usize,
    seed: u64,
    grammar: Grammar,
    kills: bool,
    random: Random,
    base: String,
    archives: usize,
    next: usize,
    expected: Expected,
    operations: Vec<Operation>,
}

impl Planner {
    /// `base` is the shared top layer, over which everything lies; there are so many `archives`.
    pub fn new(seed: u64, lane: usize, grammar: Grammar, base: &str, archives: usize) -> Self {
        Self {
            lane,
            seed,
            grammar,
            kills: grammar == Grammar::Strata,
            random: Random::new(seed, lane as u64),
            base: base.to_owned(),
            archives,
            next: 0,
            expected: Expected::default(),
            operations: Vec::new(),
        }
    }

    /// So many commands, and what they lead to.
    pub fn plan(mut self, count: usize) -> (Vec<Operation>, Expected) {
        while self.operations.len() < count {
            self.step();
        }
        (self.operations, self.expected)
    }

    fn id(&mut self) -> String {
        self.next += 1;
        image::hex(format!("{}-{}-{}", self.seed, self.lane, self.next).as_bytes())
    }

    fn name(&mut self, kind: &str) -> String {
        format!("localhost/{kind}-{}-{}:1", self.lane, self.next)
    }

    fn push(&mut self, action: Action) {
        let kill = (self.kills && self.random.once_in(8)).then(|| 1 + self.random.below(40));
        self.operations.push(Operation { action, kill });
    }

    fn parent(&mut self) -> String {
        let own: Vec<_> = self.expected.layers.keys().cloned().collect();
        match self.random.pick(&own) {
            Some(layer) if !self.random.once_in(3) => layer.clone(),
            _ => self.base.clone(),
        }
    }

    fn step(&mut self) {
        match self.random.below(26) {
            0..=2 => self.new_layer(),
            3 | 4 => self.new_image(),
            5..=7 => self.new_container(),
            8 => self.rename_own(),
            9 | 10 => self.rename_shared(),
            11 => self.describe(),
            12 | 13 => self.fill_shared(),
            14 => self.fill_own(),
            15 | 16 => self.mount_own(),
            17 | 18 => self.mount_shared(),
            19 => self.drop_container(),
            20 => self.drop_image(),
            21 => self.drop_layer(),
            22 => self.read_back(),
            23 | 24 => self.look(),
            _ => match self.grammar {
                Grammar::Strata if self.random.once_in(4) => self.push(Action::Collect),
                _ => self.push(Action::ListLayers),
            },
        }
    }

    fn new_layer(&mut self) {
        if self.expected.layers.len() >= KEPT {
            return self.drop_layer();
        }
        let (parent, id) = (self.parent(), self.id());
        let file = (!self.random.once_in(3)).then(|| self.random.below(self.archives));
        self.expected
            .layers
            .insert(id.clone(), (parent.clone(), file));
        self.push(match file {
            Some(file) => Action::ImportLayer { id, parent, file },
            None => Action::CreateLayer { id, parent },
        });
    }

    fn new_image(&mut self) {
        if self.expected.images.len() >= KEPT {
            return self.drop_image();
        }
        let (layer, id) = (self.parent(), self.id());
        let name = self.name("image");
        let object = Object {
            names: [name.clone()].into(),
            over: layer.clone(),
            ..Object::default()
        };
        self.expected.images.insert(id.clone(), object);
        self.push(Action::CreateImage { id, name, layer });
    }

    fn new_container(&mut self) {
        if self.expected.containers.len() >= KEPT {
            return self.drop_container();
        }
        let own: Vec<_> = self.expected.images.keys().cloned().collect();
        let image = match self.random.pick(&own) {
            Some(image) if !self.random.once_in(2) => image.clone(),
            _ => IMAGE.to_owned(),
        };
        let id = self.id();
        let name = format!("container-{}-{}", self.lane, self.next);
        let object = Object {
            names: [name.clone()].into(),
            over: image.clone(),
            ..Object::default()
        };
        self.expected.containers.insert(id.clone(), object);
        self.push(Action::CreateContainer { id, name, image });
    }

    fn rename_own(&mut self) {
        let own: Vec<_> = self.expected.images.keys().cloned().collect();
        let Some(object) = self.random.pick(&own).cloned() else {
            return self.new_image();
        };
        let name = format!("localhost/more-{}-{}:1", self.lane, self.random.below(4));
        let takes_away = self.grammar != Grammar::Old;
        let holder = self
            .expected
            .images
            .iter()
            .find(|(_, image)| image.names.contains(&name))
            .map(|(id, _)| id.clone());
        match holder {
            Some(holder) if holder != object || takes_away => {
                // A name moves by force in the peers, which is no business of this test: it is taken away, or stays.
                if takes_away {
                    let image = self.expected.images.get_mut(&holder).unwrap();
                    image.names.remove(&name);
                    self.push(Action::RemoveName {
                        object: holder,
                        name,
                    });
                }
            }
            _ => {
                let image = self.expected.images.get_mut(&object).unwrap();
                image.names.insert(name.clone());
                self.push(Action::AddName { object, name });
            }
        }
    }

    fn rename_shared(&mut self) {
        // Debian's 1.43 reads the names and sets them and one more, without a lock in between: two of it lose each other's.
        if self.grammar == Grammar::Old {
            return self.rename_own();
        }
        let name = format!("localhost/by-{}-{}:1", self.lane, self.random.below(6));
        let object = IMAGE.to_owned();
        if self.expected.shared_names.remove(&name) {
            self.push(Action::RemoveName { object, name });
        } else {
            self.expected.shared_names.insert(name.clone());
            self.push(Action::AddName { object, name });
        }
    }

    fn describe(&mut self) {
        let text = format!("text {}", self.operations.len());
        let own: Vec<_> = self.expected.containers.keys().cloned().collect();
        let Some(object) = self.random.pick(&own).cloned() else {
            return self.new_container();
        };
        self.expected
            .containers
            .get_mut(&object)
            .unwrap()
            .metadata
            .clone_from(&text);
        self.push(Action::SetMetadata { object, text });
    }

    fn fill_shared(&mut self) {
        let key = format!("by.{}.{}", self.lane, self.random.below(4));
        let value = "x".repeat(1 + self.random.below(2_000)) + &self.operations.len().to_string();
        if self.random.once_in(2) {
            let object = IMAGE.to_owned();
            let data = &mut self.expected.shared_image_data;
            data.insert(key.clone(), value.clone());
            self.push(Action::SetImageData { object, key, value });
        } else {
            let object = CONTAINER.to_owned();
            let data = &mut self.expected.shared_container_data;
            data.insert(key.clone(), value.clone());
            self.push(Action::SetContainerData { object, key, value });
        }
    }

    fn fill_own(&mut self) {
        let own: Vec<_> = self.expected.containers.keys().cloned().collect();
        let Some(object) = self.random.pick(&own).cloned() else {
            return self.new_container();
        };
        let key = format!("key.{}", self.random.below(3));
        let value = format!("value {}", self.operations.len());
        let container = self.expected.containers.get_mut(&object).unwrap();
        container.data.insert(key.clone(), value.clone());
        self.push(Action::SetContainerData { object, key, value });
    }

    fn mount_own(&mut self) {
        let own: Vec<_> = self.expected.containers.keys().cloned().collect();
        let Some(id) = self.random.pick(&own).cloned() else {
            return self.new_container();
        };
        let container = self.expected.containers.get_mut(&id).unwrap();
        if container.mounts >= 2 || (container.mounts == 1 && self.random.once_in(2)) {
            container.mounts -= 1;
            return self.operations.push(Operation {
                action: Action::Unmount { container: id },
                kill: None,
            });
        }
        if container.mounts == 0 && self.kills && self.random.once_in(4) {
            let kill = Some(1 + self.random.below(12));
            let action = Action::MountAndForce { container: id };
            return self.operations.push(Operation { action, kill });
        }
        let note = format!("note {}", self.operations.len());
        container.mounts += 1;
        container.note = Some(note.clone());
        // A count that a kill leaves open could not be known in the end.
        self.operations.push(Operation {
            action: Action::MountAndWrite {
                container: id,
                note,
            },
            kill: None,
        });
    }

    fn mount_shared(&mut self) {
        let action = if self.expected.shared_mounts > 0 && self.random.once_in(2) {
            self.expected.shared_mounts -= 1;
            let container = CONTAINER.to_owned();
            Action::Unmount { container }
        } else {
            self.expected.shared_mounts += 1;
            Action::MountShared
        };
        self.operations.push(Operation { action, kill: None });
    }

    fn drop_container(&mut self) {
        let idle: Vec<_> = self
            .expected
            .containers
            .iter()
            .filter(|(_, container)| container.mounts == 0)
            .map(|(id, _)| id.clone())
            .collect();
        if let Some(id) = self.random.pick(&idle).cloned() {
            self.expected.containers.remove(&id);
            self.push(Action::DeleteContainer { id });
        }
    }

    fn drop_image(&mut self) {
        let used: BTreeSet<_> = self
            .expected
            .containers
            .values()
            .map(|container| container.over.clone())
            .collect();
        let free: Vec<_> = self
            .expected
            .images
            .keys()
            .filter(|id| !used.contains(*id))
            .cloned()
            .collect();
        if let Some(id) = self.random.pick(&free).cloned() {
            let image = self.expected.images.remove(&id).unwrap();
            let layers = self.drop_unused_from(image.over);
            self.push(Action::DeleteImage { id, layers });
        }
    }

    /// An image takes along the layers below it that nothing else is over.
    fn drop_unused_from(&mut self, top: String) -> Vec<String> {
        let mut dropped = Vec::new();
        let mut layer = top;
        loop {
            let expected = &self.expected;
            let is_used = expected.layers.values().any(|(parent, _)| *parent == layer)
                || expected.images.values().any(|image| image.over == layer);
            if is_used || layer == self.base {
                return dropped;
            }
            let (parent, _) = self.expected.layers.remove(&layer).expect("an own layer");
            dropped.push(std::mem::replace(&mut layer, parent));
        }
    }

    fn drop_layer(&mut self) {
        let mut used: BTreeSet<_> = self
            .expected
            .layers
            .values()
            .map(|(parent, _)| parent.clone())
            .collect();
        used.extend(
            self.expected
                .images
                .values()
                .map(|image| image.over.clone()),
        );
        let free: Vec<_> = self
            .expected
            .layers
            .keys()
            .filter(|id| !used.contains(*id))
            .cloned()
            .collect();
        if let Some(id) = self.random.pick(&free).cloned() {
            self.expected.layers.remove(&id);
            self.push(Action::DeleteLayer { id });
        }
    }

    fn read_back(&mut self) {
        let imported: Vec<_> = self
            .expected
            .layers
            .iter()
            .filter_map(|(id, (_, file))| file.map(|file| (id.clone(), file)))
            .collect();
        match self.random.pick(&imported).cloned() {
            Some((layer, file)) => self.push(Action::Diff { layer, file }),
            None => self.new_layer(),
        }
    }

    fn look(&mut self) {
        let filled = self.expected.containers.iter().find_map(|(id, container)| {
            let (key, value) = container.data.iter().next()?;
            Some((id.clone(), key.clone(), value.clone()))
        });
        if let Some((object, key, value)) = filled
            && self.random.once_in(2)
        {
            return self.push(Action::GetContainerData { object, key, value });
        }
        let own: Vec<_> = self
            .expected
            .layers
            .keys()
            .chain(self.expected.images.keys())
            .chain(self.expected.containers.keys())
            .cloned()
            .collect();
        let action = match self.random.pick(&own).cloned() {
            Some(id) if !self.random.once_in(4) => Action::Exists { id, is_there: true },
            _ => Action::Exists {
                id: image::hex(b"nobody has this"),
                is_there: false,
            },
        };
        self.push(action);
    }
}
