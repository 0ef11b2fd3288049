//! What the process is told by its surroundings, and the store that a command works on.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;

use super::definition::Flag;
use super::failure::Failure;
use super::grammar::Given;
use super::unshare;
use crate::oci::pull::PullerOptions;
use crate::store::{Config, Environment, Store};

/// What bounds a pull, whoever asks for it: the command line or the plugin.
pub const PULL_LIMITS: &[Flag] = &[
    Flag::value(
        "pull-lanes",
        None,
        "Layers that are fetched and unpacked at the same time (default 4)",
    ),
    Flag::value(
        "pull-keep",
        None,
        "Complete layers of so many bytes outlive a kill of the pull (default 16M)",
    ),
    Flag::value(
        "max-image-size",
        None,
        "How large the files of an image may be together, as 20G (default 128G)",
    ),
    Flag::value(
        "max-layer-size",
        None,
        "How large a layer may be as it is fetched (default 64G)",
    ),
    Flag::value(
        "max-layer-files",
        None,
        "How many files a layer may have (default 10000000)",
    ),
];

/// The store that the command works on.
static OPENED: OnceLock<Store> = OnceLock::new();

/// A variable that is set and not empty.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// A variable that names a file or folder.
pub fn path_variable(name: &str) -> Option<PathBuf> {
    variable(name).map(PathBuf::from)
}

/// A variable that holds text.
///
/// # Errors
/// When it is not UTF-8.
pub fn text_variable(name: &str) -> Result<Option<String>, Failure> {
    let text = variable(name).map(OsString::into_string).transpose();
    text.map_err(|_| {
        Failure::new(format!(
            "the environment variable {name} is not valid UTF-8"
        ))
    })
}

/// Threads for talking to registries.
///
/// # Errors
/// When they can't be started.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new("start threads").caused_by(&error))
}

/// Lanes and limits of pulls, where they were said.
///
/// # Errors
/// When one is no number, or 0.
pub fn limit_pulls(given: &Given, options: &mut PullerOptions) -> Result<(), Failure> {
    if let Some(lanes) = amount(given, "pull-lanes")? {
        options.lanes = usize::try_from(lanes).unwrap_or(usize::MAX);
    }
    if let Some(bytes) = amount(given, "pull-keep")? {
        options.keep_bytes = bytes;
    }
    let limits = &mut options.limits;
    for (flag, limit) in [
        ("max-image-size", &mut limits.unpacked_bytes),
        ("max-layer-size", &mut limits.blob_bytes),
        ("max-layer-files", &mut limits.entries),
    ] {
        if let Some(amount) = amount(given, flag)? {
            *limit = amount;
        }
    }
    Ok(())
}

/// A number above 0, perhaps with K, M, G or T for powers of 1024.
pub(super) fn amount(given: &Given, flag: &str) -> Result<Option<u64>, Failure> {
    let Some(text) = given.filled(flag) else {
        return Ok(None);
    };
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        Some(b'T') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let amount: Option<u64> = digits.parse().ok();
    match amount.and_then(|amount| amount.checked_mul(1 << shift)) {
        Some(amount) if amount > 0 => Ok(Some(amount)),
        _ => Err(Failure::new(format!(
            "--{flag}: {text:?} is not a number above 0"
        ))),
    }
}

/// What decides about the configuration of a store.
///
/// # Errors
/// When a variable is not UTF-8.
pub fn environment() -> Result<Environment, Failure> {
    Ok(Environment {
        config_file: path_variable("CONTAINERS_STORAGE_CONF"),
        override_file: path_variable("CONTAINERS_STORAGE_CONF_OVERRIDE"),
        home: path_variable("HOME"),
        xdg_config_home: path_variable("XDG_CONFIG_HOME"),
        xdg_data_home: path_variable("XDG_DATA_HOME"),
        xdg_runtime_dir: path_variable("XDG_RUNTIME_DIR"),
        driver: text_variable("STORAGE_DRIVER")?,
        // One that is empty takes the options of the files away.
        options: match env::var_os("STORAGE_OPTS") {
            Some(value) if value.is_empty() => Some(String::new()),
            _ => text_variable("STORAGE_OPTS")?,
        },
        user: outer_user()?.unwrap_or_else(|| rustix::process::geteuid().as_raw()),
        // One that is not UTF-8 can't be named by a file that is.
        variables: env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
    })
}

/// The user outside the name space whose root this process is, if a tool of the family has made that.
///
/// # Errors
/// When the variable is not UTF-8.
pub fn outer_user() -> Result<Option<u32>, Failure> {
    let user = text_variable(unshare::OUTER_USER)?.and_then(|text| text.parse().ok());
    Ok(user.filter(|user| *user > 0 && rustix::process::geteuid().is_root()))
}

/// The configuration that flags and environment make. When one of the roots, the driver or an option
/// is given, files and environment do not count, but for a root that is not given.
///
/// # Errors
/// When the files can't be used, or the flags say too little.
pub fn config(given: &Given) -> Result<Config, Failure> {
    let options = given.texts("storage-opt");
    let driver = given.filled("storage-driver").map(str::to_owned);
    let graph = given.filled("graph").map(PathBuf::from);
    let run = given.filled("run").map(PathBuf::from);
    let is_configured = graph.is_none() && run.is_none() && driver.is_none() && options.is_empty();
    let loaded = || Config::load(&environment()?).map_err(|error| Failure::open(&error));
    let mut config = if is_configured {
        loaded()?
    } else if graph.is_none() && run.is_none() {
        let text = "no storage runroot or graphroot specified: missing necessary StoreOptions";
        return Err(Failure::Open(text.to_owned()));
    } else {
        let (graph_root, run_root) = match (graph, run) {
            (Some(graph), Some(run)) => (graph, run),
            // As the peer: the root that is not given is the configured one.
            (graph, run) => {
                let configured = loaded()?;
                (
                    graph.unwrap_or(configured.graph_root),
                    run.unwrap_or(configured.run_root),
                )
            }
        };
        Config {
            graph_root,
            run_root,
            driver,
            options,
            ..Config::default()
        }
    };
    if let Some(root) = given.filled("image-store") {
        config.image_store = Some(root.into());
    }
    let disabled = text_variable("_CONTAINERS_OVERLAY_DISABLE_IDMAP")?;
    config.no_id_mapped_mounts = disabled.as_deref() == Some("yes");
    config.is_transient |= given.has("transient-store");
    Ok(config)
}

/// Opens the store.
///
/// # Errors
/// See [`config`]; or when it can't be opened.
pub fn open(given: &Given) -> Result<Store, Failure> {
    let store = Store::open(config(given)?).map_err(|error| Failure::open(&error))?;
    // A second store of one process is dropped by whoever opened it.
    drop(OPENED.set(store.clone()));
    Ok(store)
}

/// Leaves the store without freeing its records: the process ends.
pub fn leave() {
    if let Some(store) = OPENED.get() {
        store.leave();
    }
}
