//! A full disk never stops a delete: the store on a small file system of its own, filled to the last
//! byte by a pod.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tonic::Code;

use crate::support::image;
use crate::support::plugin::{self, Kubelet, Plugin, Settings, Wish, inline_handle};
use crate::support::registry::Registry;
use crate::support::scratch::{Scratch, mounts_below};
use crate::support::standing::Standing;
use crate::support::tool::{self, Ran, Tool};

/// What a pod writes into its volume until nothing fits.
struct Filler {
    folder: PathBuf,
    file: File,
    empty: u32,
}

impl Filler {
    fn new(folder: &Path) -> Self {
        fs::create_dir(folder).unwrap();
        Self {
            folder: folder.to_owned(),
            file: File::create(folder.join("large")).unwrap(),
            empty: 0,
        }
    }

    /// Takes every inode and every byte that is free now.
    fn fill(&mut self) {
        while File::create(self.folder.join(self.empty.to_string())).is_ok() {
            self.empty += 1;
        }
        let block = vec![b'x'; 1 << 20];
        for size in [1 << 20, 64 << 10, 4 << 10, 1] {
            while self.file.write_all(&block[..size]).is_ok() {}
        }
    }

    /// Leaves so many inodes and bytes free of a disk that is full otherwise.
    fn leave(&mut self, inodes: u32, bytes: u64) {
        self.fill();
        for _ in 0..inodes {
            self.empty -= 1;
            fs::remove_file(self.folder.join(self.empty.to_string())).unwrap();
        }
        let length = self.file.metadata().unwrap().len() - bytes;
        self.file.set_len(length).unwrap();
        self.file.seek(SeekFrom::Start(length)).unwrap();
        self.file.sync_all().unwrap();
    }

    /// Keeps on taking what becomes free.
    fn run(mut self, stop: Arc<AtomicBool>) -> JoinHandle<()> {
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                self.fill();
            }
        })
    }
}

/// A plugin whose graph root lies on a small ext4, and its volumes. The run root has room: what needs the disk is the
/// driver, not the record of a mount.
pub struct Disk {
    pub kubelet: Kubelet,
    plugin: Option<Plugin>,
    pub settings: Settings,
    image: String,
    scratch: Scratch,
}

impl Disk {
    pub fn new() -> Self {
        tool::require_root();
        let scratch = Scratch::new("full");
        let (file, disk) = (scratch.path().join("disk.img"), scratch.dir("disk"));
        File::create(&file).unwrap().set_len(64 << 20).unwrap();
        Tool::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0", "-N", "512"])
            .arg(&file)
            .ok();
        // The loop device goes with the mount, which goes with the scratch directory.
        Tool::new("mount")
            .args(["-o", "loop"])
            .arg(&file)
            .arg(&disk)
            .ok();
        let layout = scratch.path().join("layout");
        image::write_layout(&layout, "one", &[image::Layer::new().file("a", "content")]);
        let mut settings = Settings::below(
            scratch.path(),
            &plugin::binary(env!("CARGO_BIN_EXE_strata")),
        );
        settings.graph = disk.join("graph");
        let image = format!("oci:{}:one", layout.display());
        let plugin = Plugin::start(&settings);
        let node = Self {
            kubelet: Kubelet::connect(&settings.socket),
            plugin: Some(plugin),
            settings,
            image,
            scratch,
        };
        node.strata(&["pull", &node.image]);
        node
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Tool::at(&self.settings.binary)
            .args(self.settings.store_arguments())
            .args(arguments)
            .output()
    }

    fn strata(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert!(ran.code == 0, "{ran}");
        ran.text()
    }

    fn publish(&self, name: &str) -> Wish {
        let wish = Wish::inline(
            &inline_handle(name),
            &self.settings.target(name, "data"),
            None,
        );
        let published = self.kubelet.publish(&wish);
        assert!(published.is_ok(), "{published:?}\n{}", self.log());
        fs::write(wish.target.join("file"), name).unwrap();
        wish
    }

    fn unpublish(&self, wish: &Wish) {
        let gone = self.kubelet.unpublish(&wish.volume, &wish.target);
        assert!(gone.is_ok(), "{gone:?}\n{}", self.log());
        assert!(!wish.target.exists());
        let containers = self.strata(&["containers", "--json"]);
        assert!(!containers.contains(&wish.volume), "{containers}");
    }

    fn delete(&self, volume: &str) {
        let gone = self.kubelet.delete(volume);
        assert!(gone.is_ok(), "{gone:?}\n{}", self.log());
        assert_eq!(self.containers_with(volume), 0);
    }

    /// The records that name the volume.
    fn containers_with(&self, volume: &str) -> usize {
        self.strata(&["containers", "--json"])
            .matches(volume)
            .count()
    }

    /// On a full disk the plugin serves, and says what it lacks.
    fn restart(&mut self) {
        let settings = self.plugin.take().unwrap().kill();
        let plugin = Plugin::spawn(&settings);
        self.kubelet = Kubelet::connect(&settings.socket);
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.kubelet.info().is_err() || !plugin.readiness().contains("is full") {
            let said = plugin.readiness();
            assert!(Instant::now() < deadline, "{said:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
        self.plugin = Some(plugin);
    }

    fn log(&self) -> String {
        self.settings.log_text()
    }

    /// Publishes with next to no room, which succeeds or is refused as it should be, leaving nothing; whether it did.
    fn try_to_publish(&self, wish: &Wish, image: Option<&str>) -> bool {
        let before = Standing::of(&self.settings);
        let Err(status) = self.kubelet.publish(wish) else {
            return true;
        };
        assert_eq!(
            status.code(),
            Code::ResourceExhausted,
            "{status:?}\n{}",
            self.log()
        );
        assert!(status.message().contains("No space left"), "{status:?}");
        assert!(!mounts_below(&self.settings.kubelet).contains(&wish.target));
        assert!(!wish.target.exists());
        if status.message().contains("mount an overlay") {
            // Of a volume that lacks the mount alone the record stays for the retry, or for the kubelet to give it up.
            self.kubelet.unpublish(&wish.volume, &wish.target).unwrap();
        }
        // A volume that had no room may have found a whole image.
        self.delete_image(image);
        before.assert_kept(&self.settings);
        false
    }

    /// Deletes the image, if it is there.
    fn delete_image(&self, id: Option<&str>) {
        if let Some(id) = id
            && self.run(&["exists", id]).code == 0
        {
            self.strata(&["delete-image", id]);
        }
    }

    /// The layers in the driver's home and their short links, and what is in the staging area.
    fn layer_folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<_> = ["overlay", "overlay/l", "strata/staging"]
            .into_iter()
            .flat_map(|folder| fs::read_dir(self.settings.graph.join(folder)).unwrap())
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir() || path.is_symlink())
            .collect();
        folders.sort();
        folders
    }
}

#[test]
fn on_a_full_disk_volumes_are_deleted_and_new_ones_are_refused_until_there_is_room() {
    let mut disk = Disk::new();
    let made = disk.layer_folders();
    let [one, two, writer] = ["one", "two", "writer"].map(|name| disk.publish(name));
    let [claim, other] = ["claim", "other"].map(|name| {
        let volume = disk.kubelet.create(name, &[]).unwrap();
        volume.volume_id
    });
    let by_hand = disk.strata(&["create-container", ""]);
    let full = writer.target.join("full");
    let mut filler = Filler::new(&full);
    filler.fill();

    // Refused, leaving nothing.
    let late = Wish::inline(
        &inline_handle("late"),
        &disk.settings.target("late", "data"),
        None,
    );
    let refused = disk.kubelet.publish(&late).unwrap_err();
    assert_eq!(
        refused.code(),
        Code::ResourceExhausted,
        "{refused:?}\n{}",
        disk.log()
    );
    assert!(
        refused.message().contains("No space left"),
        "it says what is wrong: {refused:?}"
    );
    disk.kubelet.unpublish(&late.volume, &late.target).unwrap();
    assert_eq!(disk.containers_with(&late.volume), 0);
    filler.fill();
    let refused = disk.kubelet.create("late", &[]).unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");

    // Each deletion finds the disk full again.
    filler.fill();
    disk.unpublish(&one);
    filler.fill();
    disk.delete(&claim);
    filler.fill();
    disk.strata(&["delete-container", &by_hand]);
    filler.fill();
    disk.restart();
    filler.fill();
    disk.delete(&other);
    filler.fill();
    disk.unpublish(&two);

    drop(filler);
    fs::remove_dir_all(full).unwrap();
    let late = disk.publish("late");
    assert_eq!(
        fs::read_to_string(late.target.join("file")).unwrap(),
        "late"
    );
    disk.unpublish(&late);
    disk.unpublish(&writer);
    assert_eq!(disk.layer_folders(), made, "no layer is left behind");
    assert_eq!(disk.plugin.take().unwrap().stop(), 0);
}

#[test]
fn a_pod_that_takes_every_freed_byte_at_once_stops_no_delete() {
    let disk = Disk::new();
    let made = disk.layer_folders();
    let writer = disk.publish("writer");
    let volumes: Vec<Wish> = (0..8)
        .map(|number| disk.publish(&format!("pod{number}")))
        .collect();
    let claims: Vec<String> = (0..4)
        .map(|number| {
            let made = disk.kubelet.create(&format!("claim{number}"), &[]).unwrap();
            made.volume_id
        })
        .collect();
    let by_hand: Vec<String> = (0..4)
        .map(|_| disk.strata(&["create-container", ""]))
        .collect();
    let full = writer.target.join("full");
    let mut filler = Filler::new(&full);
    filler.fill();
    let stop = Arc::new(AtomicBool::new(false));
    let thread = filler.run(Arc::clone(&stop));
    let deleted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for wish in &volumes {
            disk.unpublish(wish);
        }
        for claim in &claims {
            disk.delete(claim);
        }
        for container in &by_hand {
            disk.strata(&["delete-container", container]);
        }
    }));
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    if let Err(panic) = deleted {
        std::panic::resume_unwind(panic);
    }
    fs::remove_dir_all(full).unwrap();
    disk.unpublish(&disk.publish("late"));
    disk.unpublish(&writer);
    assert_eq!(disk.layer_folders(), made, "no layer is left behind");
    assert!(disk.scratch.path().exists());
}

/// Too few inodes, or too few bytes, from none to as many as it takes for so many layers: whatever call it is that fails.
fn amounts(layers: u32) -> impl Iterator<Item = (u32, u64)> {
    let inodes = (0..=20 * layers).map(|inodes| (inodes, 1 << 20));
    let blocks = (0..=32).map(move |number| u64::from(number * layers * 2));
    inodes.chain(blocks.map(|blocks| (96, blocks << 10)))
}

#[test]
fn a_publish_that_runs_out_of_room_at_any_call_is_refused_and_leaves_nothing() {
    let disk = Disk::new();
    let writer = disk.publish("writer");
    let mut filler = Filler::new(&writer.target.join("full"));
    let mut done = Vec::new();
    for (inodes, bytes) in amounts(1) {
        let name = format!("pod-{inodes}-{bytes}");
        let target = disk.settings.target(&name, "data");
        let wish = Wish::inline(&inline_handle(&name), &target, None);
        filler.leave(inodes, bytes);
        let is_done = disk.try_to_publish(&wish, None);
        done.push(is_done);
        // The kubelet gives up the pod.
        disk.kubelet.unpublish(&wish.volume, &wish.target).unwrap();
        assert_eq!(disk.containers_with(&wish.volume), 0);
    }
    assert_both(&done);
}

#[test]
fn a_pull_that_runs_out_of_room_at_any_call_is_refused_and_leaves_nothing() {
    let disk = Disk::new();
    let registry = Registry::start(&disk.scratch.dir("registry"));
    let layout = disk.scratch.path().join("pulled");
    let layers = [
        image::Layer::new().dir("a").file("a/one", vec![b'1'; 9000]),
        image::Layer::new().dir("b").file("b/two", vec![b'2'; 9000]),
    ];
    let built = image::write_layout(&layout, "x", &layers);
    registry.push(&layout, "test/pulled", "x");
    let reference = registry.reference("test/pulled", "x");
    let writer = disk.publish("writer");
    let mut filler = Filler::new(&writer.target.join("full"));
    let mut done = Vec::new();
    for (inodes, bytes) in amounts(3) {
        let name = format!("pod-{inodes}-{bytes}");
        let target = disk.settings.target(&name, "data");
        let wish = Wish::inline(&inline_handle(&name), &target, Some(&reference));
        filler.leave(inodes, bytes);
        let is_done = disk.try_to_publish(&wish, Some(&built.id));
        done.push(is_done);
        disk.kubelet.unpublish(&wish.volume, &wish.target).unwrap();
        disk.delete_image(Some(&built.id));
    }
    assert_both(&done);
}

/// Some were refused and some not: else nothing was tried.
#[track_caller]
fn assert_both(done: &[bool]) {
    let count = done.iter().filter(|done| **done).count();
    assert!(count > 0 && count < done.len(), "{done:?}");
}
