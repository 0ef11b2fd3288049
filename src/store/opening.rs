//! Opening a store: roots, driver, folders. Everything that is made here is found again by Go.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::{Config, DEFAULT_GRAPH_ROOT, DEFAULT_RUN_ROOT};
use super::driver::split::Split;
use super::driver::{self, Driver, DriverError, DriverKind, Roots};
use super::error::Error;
use super::image_root::ImageRoot;
use super::read_only::ReadOnlyStore;
use super::staging::Staging;
use super::table_file::{Place, TableFile};
use super::writer::Writer;
use super::{Inner, Store};
use crate::digest;
use crate::sys::Durability;
use crate::sys::dir::random_bytes;
use crate::sys::record_lock::{Access, RecordLock};
use crate::sys::{self, Dir};

pub(super) const LAYER_FILES: &[&str] = &["layers.json", "volatile-layers.json"];
pub(super) const IMAGE_FILES: &[&str] = &["images.json"];
const CONTAINER_FILES: &[&str] = &["containers.json", "volatile-containers.json"];
const MOUNT_FILE: &str = "mountpoints.json";

/// The lock that shutdowns and mounts in the driver home take, in the graph root.
pub(super) const GRAPH_LOCK: &str = "storage.lock";

/// The lock of those who give a container user and group IDs of its own, in the graph root.
pub(super) const USER_NAMESPACE_LOCK: &str = "userns.lock";

/// Makes a path absolute against the working directory, without resolving links.
fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|error| sys::Error::new("resolve", path, error).into())
}

/// The drivers that are to be tried, in this order: the configured one, the one that the graph root was made with, or
/// those of the priority list.
///
/// As in Go: the folders of the graph root decide; two of them are an error; none leaves the choice to the priority
/// list. `vfs`, when the configuration does not list it, is taken only where no other has a folder.
fn candidates(config: &Config, graph: &Dir) -> Result<Vec<String>, Error> {
    if let Some(name) = &config.driver {
        return Ok(vec![name.clone()]);
    }
    let is_explicit = !config.driver_priority.is_empty();
    let mut priority = config.driver_priority.clone();
    if !is_explicit {
        priority = ["overlay", "btrfs", "zfs", "vfs"].map(str::to_owned).into();
    }
    let mut found = Vec::new();
    for name in ["overlay", "btrfs", "zfs", "vfs"] {
        if graph.stat(name)?.is_some() {
            found.push(name.to_owned());
        }
    }
    match found.as_slice() {
        [name] if priority.contains(name) => Ok(found),
        names if !names.iter().any(|name| priority.contains(name)) => Ok(priority),
        names => Err(Error::NotSupported(format!(
            "{} contains several valid graphdrivers: {}; Please cleanup or explicitly choose storage \
             driver (-s <DRIVER>)",
            graph.path().display(),
            names.join(", ")
        ))),
    }
}

/// Opens the first of the candidates that can work here.
fn open_driver(
    names: &[String],
    roots: &Roots<'_>,
    options: &[String],
) -> Result<Box<dyn Driver>, Error> {
    let mut first = None;
    for name in names {
        let opened = DriverKind::parse(name).and_then(|kind| driver::open(kind, roots, options));
        match opened {
            Ok(driver) => return Ok(driver),
            Err(error @ (DriverError::Unknown(_) | DriverError::Prerequisites(_))) => {
                tracing::debug!(driver = name, %error, "the next driver is tried");
                // The one that is preferred says best what is amiss.
                first.get_or_insert(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(first.map_or_else(|| DriverError::Unknown(String::new()).into(), Error::from))
}

/// Opens the second root of a split store, making what is missing.
fn open_image_root(path: &Path, graph_root: &Path) -> Result<ImageRoot, Error> {
    if path == graph_root {
        return Err(Error::NotSupported(format!(
            "{} as graph root and image store at once: a split store has two",
            path.display()
        )));
    }
    let dir = Dir::open_or_create(path, 0o700)?;
    let staging = dir
        .ensure_dir("strata", 0o700)?
        .ensure_dir("staging", 0o700)?;
    let staging = Staging::new(staging);
    staging.reserve();
    Ok(ImageRoot {
        path: path.to_owned(),
        dir,
        staging,
    })
}

/// Opens the drivers of a split store: each has the other's root beside its own. The graph root's home is there already.
fn split_driver(
    kind: DriverKind,
    root: &ImageRoot,
    roots: &Roots<'_>,
    options: &[String],
) -> Result<Box<dyn Driver>, Error> {
    let beside = |other: &Path| -> Vec<PathBuf> {
        std::iter::once(other.to_owned())
            .chain(roots.additional.iter().cloned())
            .collect()
    };
    let of_images = Roots {
        graph: &root.dir,
        graph_path: &root.path,
        additional: beside(roots.graph_path),
        is_for_images: true,
        ..*roots
    };
    let images = driver::open(kind, &of_images, options)?;
    let of_graph = Roots {
        additional: beside(&root.path),
        ..*roots
    };
    let graph = driver::open(kind, &of_graph, options)?;
    Ok(Box::new(Split::new(graph, images, root.path.clone())))
}

impl Store {
    /// Opens the store of `config`, making what is missing. One whose graph root can't be written can be read, and its
    /// images mounted.
    ///
    /// # Errors
    /// When a root can't be made or read, or the driver can't work there. Folders made before stay.
    pub fn open(mut config: Config) -> Result<Self, Error> {
        if config.graph_root.as_os_str().is_empty() {
            config.graph_root = DEFAULT_GRAPH_ROOT.into();
        }
        if config.run_root.as_os_str().is_empty() {
            config.run_root = DEFAULT_RUN_ROOT.into();
        }
        config.graph_root = absolute(&config.graph_root)?;
        config.run_root = absolute(&config.run_root)?;
        let run = Dir::open_or_create(&config.run_root, 0o700)?;
        let graph = Dir::open_or_create(&config.graph_root, 0o700)?;
        let image_root = match &config.image_store {
            Some(path) => Some(open_image_root(&absolute(path)?, &config.graph_root)?),
            None => None,
        };
        let candidates = candidates(&config, &graph)?;
        let is_read_only = !graph.is_writable()?;
        if !is_read_only {
            for lock in [GRAPH_LOCK, USER_NAMESPACE_LOCK] {
                drop(graph.ensure_file(lock, 0o644)?);
            }
        }
        // Beside a graph root on the same full disk the tables in the run root need a spare as well.
        let run_spares = run.ensure_dir("strata", 0o700)?;
        let own = match is_read_only {
            true => run_spares.try_clone()?,
            false => graph.ensure_dir("strata", 0o700)?,
        };
        let spares = own.ensure_dir("spare", 0o700)?;
        let roots = Roots {
            graph: &graph,
            graph_path: &config.graph_root,
            run: &run,
            run_path: &config.run_root,
            additional: config.additional_image_stores.clone(),
            no_id_mapped_mounts: config.no_id_mapped_mounts,
            is_read_only,
            is_for_images: false,
        };
        let mut driver = open_driver(&candidates, &roots, &config.options)?;
        let name = driver.kind().as_str();
        config.driver = Some(name.to_owned());
        let mut others = Vec::new();
        for root in driver.additional_roots() {
            others.extend(ReadOnlyStore::open(&root, name)?);
        }
        if let Some(root) = &image_root {
            driver = split_driver(driver.kind(), root, &roots, &config.options)?;
        }
        let folder = |root: &Dir, kind: &str| {
            let name = format!("{name}-{kind}");
            if is_read_only && root.stat(&name)?.is_none() {
                // Nobody made one: no records of that kind.
                return run_spares.ensure_dir("none", 0o700);
            }
            root.ensure_dir(name, 0o700)
        };
        let place = |dir: &Dir, name: &'static str, spares: &Dir| -> Result<Place, Error> {
            Ok(Place {
                dir: dir.try_clone()?,
                name,
                spares: Some(spares.try_clone()?),
            })
        };
        let layer_dir = folder(&graph, "layers")?;
        let layer_run = folder(&run, "layers")?;
        let container_dir = folder(&graph, "containers")?;
        let container_run = folder(&run, "containers")?;
        // In a transient store what is volatile ends with the boot, and containers are locked where they end.
        let ((volatile_layers, other_layers), volatile_containers, volatile_spares) =
            match config.is_transient {
                true => ((&layer_run, &layer_dir), &container_run, &run_spares),
                false => ((&layer_dir, &layer_run), &container_dir, &spares),
            };
        let image_dir = folder(&graph, "images")?;
        let mut layers = TableFile::new(
            layer_dir.try_clone()?,
            (layer_dir.try_clone()?, "layers.lock"),
            vec![
                place(&layer_dir, LAYER_FILES[0], &spares)?,
                place(volatile_layers, LAYER_FILES[1], volatile_spares)?,
            ],
            Durability::Atomic,
        );
        let mut image_places = vec![place(&image_dir, IMAGE_FILES[0], &spares)?];
        let mut first_image_dir = image_dir.try_clone()?;
        if let Some(root) = &image_root {
            let own = root.dir.ensure_dir("strata", 0o700)?;
            let spares = own.ensure_dir("spare", 0o700)?;
            let layer_dir = folder(&root.dir, "layers")?;
            layers = layers.with_file(place(&layer_dir, LAYER_FILES[0], &spares)?);
            layers = layers.with_second_lock(layer_dir);
            // New images go to the image root; those of before the split stay where they are.
            first_image_dir = folder(&root.dir, "images")?;
            image_places.insert(0, place(&first_image_dir, IMAGE_FILES[0], &spares)?);
        }
        let mut images = TableFile::new(
            first_image_dir.try_clone()?,
            (first_image_dir, "images.lock"),
            image_places,
            Durability::Atomic,
        );
        if image_root.is_some() {
            images = images.with_second_lock(image_dir).with_folders_beside();
        }
        let containers = TableFile::new(
            container_dir.try_clone()?,
            (volatile_containers.try_clone()?, "containers.lock"),
            vec![
                place(&container_dir, CONTAINER_FILES[0], &spares)?,
                place(volatile_containers, CONTAINER_FILES[1], volatile_spares)?,
            ],
            Durability::Atomic,
        );
        let mounts = TableFile::new(
            layer_run.try_clone()?,
            (layer_run.try_clone()?, "mountpoints.lock"),
            vec![place(&layer_run, MOUNT_FILE, &run_spares)?],
            Durability::None,
        );
        let other_volatile_layers = other_layers.try_clone()?;
        let (mut layers, mut images, mut containers) = (layers, images, containers);
        let staging = if is_read_only {
            (layers, images) = (layers.never_written(), images.never_written());
            containers = containers.never_written();
            Staging::closed(graph.try_clone()?)
        } else {
            let staging = Staging::new(own.ensure_dir("staging", 0o700)?);
            staging.reserve();
            staging
        };
        let image_run = config.run_root.join(format!("{name}-images"));
        let inner = Inner {
            container_run,
            other_volatile_layers,
            image_run,
            staging,
            image_root,
            driver,
            layers,
            mounts,
            images,
            containers,
            others,
            writer: Writer::default(),
            is_read_only,
            graph,
            config,
        };
        let store = Self(Arc::new(inner));
        if !is_read_only && let Err(error) = store.finish_replacements() {
            tracing::warn!(%error, "data that a dead process was replacing is not listed yet");
        }
        Ok(store)
    }

    /// The store's UUID: made once, kept in the graph root, 32 hex digits.
    ///
    /// # Errors
    /// When it can be neither read nor made.
    pub fn uuid(&self) -> Result<String, Error> {
        let own = self.0.graph.open_dir("strata")?;
        // Two processes may open a new store at the same time.
        let lock = RecordLock::acquire(&self.0.graph, GRAPH_LOCK, Access::Exclusive)?;
        if let Some(bytes) = own.find("uuid")? {
            let text = String::from_utf8_lossy(&bytes).trim().to_owned();
            if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Ok(text);
            }
        }
        let mut bytes = [0; 16];
        random_bytes(&mut bytes);
        let mut text = String::new();
        digest::push_hex(&mut text, &bytes);
        own.replace("uuid", text.as_bytes(), Durability::Durable)?;
        drop(lock);
        Ok(text)
    }

    /// Reserves the store for this process as the one node plugin that serves it: two would sweep each
    /// other's volumes. `None` while another process has it.
    ///
    /// # Errors
    /// When the lock file can't be made or locked.
    pub fn reserve_for_plugin(&self) -> Result<Option<RecordLock>, Error> {
        let own = self.0.graph.open_dir("strata")?;
        let file = own.ensure_file("plugin.lock", 0o600)?;
        Ok(RecordLock::try_exclusive(file)?.ok())
    }

    /// Removes what dead processes left in the staging area.
    ///
    /// # Errors
    /// When something can't be removed.
    pub fn remove_leftovers(&self) -> Result<(), Error> {
        if let Some(root) = &self.0.image_root {
            root.staging.remove_leftovers()?;
        }
        Ok(self.0.staging.remove_leftovers()?)
    }
}
