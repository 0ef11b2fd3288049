//! [`Config`]: where a store is and how it works, from `storage.conf` and from what the caller says.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::sys::{self, Dir};

/// Graph root when nothing says otherwise.
pub const DEFAULT_GRAPH_ROOT: &str = "/var/lib/containers/storage";
/// Run root when nothing says otherwise.
pub const DEFAULT_RUN_ROOT: &str = "/run/containers/storage";

/// What a store is opened with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The durable tree.
    pub graph_root: PathBuf,
    /// The tree that ends with the boot.
    pub run_root: PathBuf,
    /// The driver's name; `None`: by what the graph root has, else by priority.
    pub driver: Option<String>,
    /// Names in the order in which an automatic choice tries them.
    pub driver_priority: Vec<String>,
    /// `[driver.]key=value`.
    pub options: Vec<String>,
    /// Roots of stores that are read beside this one.
    pub additional_image_stores: Vec<PathBuf>,
    /// Root of a split store's images.
    pub image_store: Option<PathBuf>,
    /// All containers end with the boot.
    pub is_transient: bool,
    /// Other owners are copied, not shown by mounts: `_CONTAINERS_OVERLAY_DISABLE_IDMAP`.
    pub no_id_mapped_mounts: bool,
    /// Layers of volatile containers are mounted as all others are.
    pub ignores_volatile: bool,
    /// The user whose subordinate IDs root gives to containers; `None`: `containers`.
    pub automatic_user: Option<String>,
    /// How many IDs an automatic user name space has at least; 0: 1024.
    pub automatic_min_size: u32,
    /// How many it has at most; 0: 65536.
    pub automatic_max_size: u32,
    /// Options of pulls, passed on.
    pub pull_options: Vec<(String, String)>,
}

/// What the process was told by its surroundings; the library itself never looks.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `CONTAINERS_STORAGE_CONF`: read instead of all other files.
    pub config_file: Option<PathBuf>,
    /// `CONTAINERS_STORAGE_CONF_OVERRIDE`: read last.
    pub override_file: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub xdg_config_home: Option<PathBuf>,
    /// `XDG_DATA_HOME`.
    pub xdg_data_home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// `STORAGE_DRIVER`.
    pub driver: Option<String>,
    /// `STORAGE_OPTS`, comma-separated: replaces the options of the files.
    pub options: Option<String>,
    /// The effective user.
    pub user: u32,
}

/// A configuration that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file that was named, or exists, can't be read.
    #[error("reading the storage configuration")]
    Read(#[from] sys::Error),
    /// A file that is no TOML.
    #[error("{} is not valid TOML", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A key that is not known, but nearly.
    #[error("{}: there is no key {key}: {meant} is meant, perhaps", path.display())]
    Misspelt {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The known key that it resembles.
        meant: &'static str,
    },
    /// A key whose value has the wrong type.
    #[error("{}: {key} must be {expected}", path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// The key, with its tables.
        key: String,
        /// What it should be.
        expected: &'static str,
    },
}

impl Environment {
    fn config_home(&self) -> Option<PathBuf> {
        self.xdg_config_home
            .clone()
            .or_else(|| Some(self.home.as_ref()?.join(".config")))
    }

    fn is_rootless(&self) -> bool {
        self.user != 0
    }

    fn default_graph_root(&self) -> PathBuf {
        if !self.is_rootless() {
            return DEFAULT_GRAPH_ROOT.into();
        }
        let data = self
            .xdg_data_home
            .clone()
            .or_else(|| Some(self.home.as_ref()?.join(".local/share")))
            .unwrap_or_else(|| PathBuf::from("/var/tmp"));
        data.join("containers/storage")
    }

    fn default_run_root(&self) -> PathBuf {
        if !self.is_rootless() {
            return DEFAULT_RUN_ROOT.into();
        }
        let run = self
            .xdg_runtime_dir
            .clone()
            .unwrap_or_else(|| PathBuf::from(format!("/tmp/storage-run-{}", self.user)));
        run.join("containers")
    }
}

/// Reads a file by its absolute path; `None` when there is none.
fn find(path: &Path) -> Result<Option<Vec<u8>>, sys::Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(None);
    };
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    match Dir::open(parent) {
        Ok(dir) => match dir.find_link(name)? {
            // Distributions link their configuration; the link itself is trusted as the file is.
            Some(target) => find(&parent.join(target)),
            None => dir.find(name),
        },
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, sys::Error> {
    find(path)?.ok_or_else(|| sys::Error::new("open", path, std::io::ErrorKind::NotFound))
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Table, ConfigError> {
    let text = String::from_utf8_lossy(bytes);
    toml::from_str(&text).map_err(|source| ConfigError::Syntax {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// Lays `over` on `base`: tables key by key; arrays are replaced, unless they ask to be appended.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            (Some(Value::Array(base)), Value::Array(over)) => {
                let (marks, values): (Vec<_>, Vec<_>) = over
                    .into_iter()
                    .partition(|value| value.as_table().is_some());
                let appends = marks
                    .iter()
                    .any(|mark| mark.get("append").and_then(Value::as_bool).unwrap_or(false));
                if !appends {
                    base.clear();
                }
                base.extend(values);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// The files that say how stores work here, in the order in which they are laid over each other.
fn files(environment: &Environment) -> Result<Vec<PathBuf>, ConfigError> {
    let mut files = Vec::new();
    if let Some(file) = environment
        .config_file
        .as_ref()
        .filter(|file| !file.as_os_str().is_empty())
    {
        files.push(file.clone());
    } else {
        let user = environment
            .config_home()
            .map(|home| home.join("containers/storage.conf"));
        let system = [
            "/etc/containers/storage.conf",
            "/usr/share/containers/storage.conf",
        ];
        for path in user.into_iter().chain(system.map(PathBuf::from)) {
            if find(&path)?.is_some() {
                files.push(path);
                break;
            }
        }
        files.extend(drop_ins(environment)?);
    }
    if let Some(file) = environment
        .override_file
        .as_ref()
        .filter(|file| !file.as_os_str().is_empty())
    {
        files.push(file.clone());
    }
    Ok(files)
}

/// Drop-in files: equal names override earlier folders; the rest in the order of their names.
fn drop_ins(environment: &Environment) -> Result<Vec<PathBuf>, ConfigError> {
    let mut folders = Vec::new();
    for base in ["/usr/share/containers", "/etc/containers"] {
        folders.push(format!("{base}/storage.conf.d").into());
        if environment.is_rootless() {
            folders.push(PathBuf::from(format!("{base}/storage.rootless.conf.d")));
            folders.push(format!("{base}/storage.rootless.conf.d/{}", environment.user).into());
        } else {
            folders.push(format!("{base}/storage.rootful.conf.d").into());
        }
    }
    if let Some(home) = environment.config_home() {
        folders.push(home.join("containers/storage.conf.d"));
    }
    let mut found = std::collections::BTreeMap::new();
    for folder in folders {
        let dir = match Dir::open(&folder) {
            Ok(dir) => dir,
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error.into()),
        };
        for entry in dir.list()? {
            let path = folder.join(&entry.name);
            if path
                .extension()
                .is_some_and(|extension| extension == "conf")
            {
                found.insert(entry.name, path);
            }
        }
    }
    Ok(found.into_values().collect())
}

/// A view of the merged files that knows which file to blame.
struct Reader<'a> {
    path: &'a Path,
    root: &'a Table,
}

impl Reader<'_> {
    fn find(&self, key: &str) -> Option<&Value> {
        let mut parts = key.split('.');
        let mut value = self.root.get(parts.next()?)?;
        for part in parts {
            value = value.get(part)?;
        }
        Some(value)
    }

    fn fail(&self, key: &str, expected: &'static str) -> ConfigError {
        ConfigError::Type {
            path: self.path.to_owned(),
            key: key.to_owned(),
            expected,
        }
    }

    fn text(&self, key: &str) -> Result<Option<String>, ConfigError> {
        match self.find(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.fail(key, "a string")),
        }
    }

    fn texts(&self, key: &str) -> Result<Vec<String>, ConfigError> {
        let fail = || self.fail(key, "an array of strings");
        match self.find(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => values
                .iter()
                .filter(|value| !value.is_table())
                .map(|value| value.as_str().map(str::to_owned).ok_or_else(fail))
                .collect(),
            Some(_) => Err(fail()),
        }
    }

    fn flag(&self, key: &str) -> Result<bool, ConfigError> {
        match self.find(key) {
            None => Ok(false),
            Some(Value::Boolean(flag)) => Ok(*flag),
            Some(_) => Err(self.fail(key, "true or false")),
        }
    }

    /// A number that is not there is 0.
    fn number(&self, key: &str) -> Result<u32, ConfigError> {
        let number = match self.find(key) {
            None => Some(0),
            Some(Value::Integer(number)) => u32::try_from(*number).ok(),
            Some(_) => None,
        };
        number.ok_or_else(|| self.fail(key, "a number from 0 to 4294967295"))
    }

    /// Every scalar of a table, as `key=value`.
    fn options(&self, table: &str, prefix: &str) -> Result<Vec<String>, ConfigError> {
        let Some(value) = self.find(table) else {
            return Ok(Vec::new());
        };
        let entries = value
            .as_table()
            .ok_or_else(|| self.fail(table, "a table"))?;
        let mut options = Vec::new();
        for (key, value) in entries {
            let text = match value {
                Value::String(text) if text.is_empty() => continue,
                Value::String(text) => text.clone(),
                Value::Boolean(flag) => flag.to_string(),
                // force_mask as a number is written in octal.
                Value::Integer(number) => format!("{number:o}"),
                _ => return Err(self.fail(&format!("{table}.{key}"), "a string")),
            };
            options.push(format!("{prefix}{key}={text}"));
        }
        Ok(options)
    }
}

/// Keys of `[storage.options]` that older files use for what is now in the driver's table.
const GENERAL_KEYS: [&str; 6] = [
    "size",
    "mount_program",
    "mountopt",
    "ignore_chown_errors",
    "skip_mount_home",
    "force_mask",
];

/// `$HOME`, `$UID` and their like in a path.
fn expand(text: &str, environment: &Environment) -> PathBuf {
    let path = |path: &Option<PathBuf>| {
        path.as_ref()
            .map(|path| path.display().to_string())
            .unwrap_or_default()
    };
    let values = [
        ("XDG_CONFIG_HOME", path(&environment.xdg_config_home)),
        ("XDG_DATA_HOME", path(&environment.xdg_data_home)),
        ("XDG_RUNTIME_DIR", path(&environment.xdg_runtime_dir)),
        ("HOME", path(&environment.home)),
        ("UID", environment.user.to_string()),
    ];
    let mut text = text.to_owned();
    for (name, value) in values {
        text = text
            .replace(&format!("${{{name}}}"), &value)
            .replace(&format!("${name}"), &value);
    }
    text.into()
}

impl Config {
    /// A store in two given roots, everything else by default.
    pub fn in_roots(graph_root: impl Into<PathBuf>, run_root: impl Into<PathBuf>) -> Self {
        Self {
            graph_root: graph_root.into(),
            run_root: run_root.into(),
            ..Self::default()
        }
    }

    /// What the files and the environment say.
    ///
    /// # Errors
    /// When a file can't be read or understood, or a key is misspelt. Other unknown keys are logged.
    pub fn load(environment: &Environment) -> Result<Self, ConfigError> {
        let mut merged = Table::new();
        let mut last = PathBuf::from("storage.conf");
        for path in files(environment)? {
            let over = parse(&path, &read(&path)?)?;
            merge(&mut merged, over);
            last = path;
        }
        let mut config = Self::from_table(&merged, &last, environment)?;
        if let Some(driver) = &environment.driver {
            config.driver = Some(driver.clone());
        }
        if let Some(options) = &environment.options {
            config.options = options
                .split(',')
                .filter(|option| !option.is_empty())
                .map(str::to_owned)
                .collect();
        }
        Ok(config)
    }

    fn from_table(
        table: &Table,
        path: &Path,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let reader = Reader { path, root: table };
        check_keys(table, path)?;
        let root = |key: &str, default: PathBuf| -> Result<PathBuf, ConfigError> {
            Ok(reader
                .text(key)?
                .map_or(default, |text| expand(&text, environment)))
        };
        let mut options = Vec::new();
        for key in GENERAL_KEYS {
            let full = format!("storage.options.{key}");
            match reader.find(&full) {
                None => {}
                Some(Value::Integer(number)) => options.push(format!("{key}={number:o}")),
                Some(Value::Boolean(flag)) => options.push(format!("{key}={flag}")),
                Some(_) => {
                    options.extend(reader.text(&full)?.map(|text| format!("{key}={text}")));
                }
            }
        }
        for driver in ["btrfs", "overlay", "vfs", "zfs"] {
            options.extend(
                reader.options(&format!("storage.options.{driver}"), &format!("{driver}."))?,
            );
        }
        Ok(Self {
            no_id_mapped_mounts: false,
            graph_root: root("storage.graphroot", environment.default_graph_root())?,
            run_root: root("storage.runroot", environment.default_run_root())?,
            driver: reader.text("storage.driver")?,
            driver_priority: reader.texts("storage.driver_priority")?,
            options,
            additional_image_stores: reader
                .texts("storage.options.additionalimagestores")?
                .iter()
                .map(|text| expand(text, environment))
                .collect(),
            image_store: reader
                .text("storage.imagestore")?
                .map(|text| expand(&text, environment)),
            is_transient: reader.flag("storage.transient_store")?,
            ignores_volatile: reader.flag("storage.options.disable-volatile")?,
            automatic_user: reader.text("storage.options.root-auto-userns-user")?,
            automatic_min_size: reader.number("storage.options.auto-userns-min-size")?,
            automatic_max_size: reader.number("storage.options.auto-userns-max-size")?,
            pull_options: match reader.find("storage.options.pull_options") {
                None => Vec::new(),
                Some(_) => reader
                    .options("storage.options.pull_options", "")?
                    .iter()
                    .filter_map(|option| option.split_once('='))
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect(),
            },
        })
    }
}

/// Keys of `[storage]`.
const KEYS: [&str; 8] = [
    "driver",
    "driver_priority",
    "runroot",
    "graphroot",
    "imagestore",
    "rootless_storage_path",
    "transient_store",
    "options",
];

/// Keys of `[storage.options]`: what we read, and what peers do.
const OPTION_KEYS: [&str; 22] = [
    "additionalimagestores",
    "additionallayerstores",
    "pull_options",
    "size",
    "inodes",
    "mount_program",
    "mountopt",
    "ignore_chown_errors",
    "skip_mount_home",
    "force_mask",
    "remap-uids",
    "remap-gids",
    "remap-user",
    "remap-group",
    "root-auto-userns-user",
    "auto-userns-min-size",
    "auto-userns-max-size",
    "disable-volatile",
    "overlay",
    "vfs",
    "btrfs",
    "zfs",
];

/// Refuses keys that look like a slip of the pen, which would silently select another store, or leave one out;
/// others that are not known are logged.
fn check_keys(table: &Table, path: &Path) -> Result<(), ConfigError> {
    let inner = |table: Option<&Table>, key: &str| table?.get(key)?.as_table().cloned();
    let storage = inner(Some(table), "storage");
    let options = inner(storage.as_ref(), "options");
    let top = table.keys().filter(|key| *key != "storage");
    // A key of the table above its heading is a slip, too.
    if let Some(key) = table.keys().find(|key| KEYS.contains(&key.as_str())) {
        return Err(ConfigError::Misspelt {
            path: path.to_owned(),
            key: key.clone(),
            meant: "[storage]",
        });
    }
    check_known(top, &["storage"], path)?;
    check_known(storage.iter().flat_map(Table::keys), &KEYS, path)?;
    check_known(options.iter().flat_map(Table::keys), &OPTION_KEYS, path)
}

fn check_known<'a>(
    keys: impl Iterator<Item = &'a String>,
    known: &[&'static str],
    path: &Path,
) -> Result<(), ConfigError> {
    for key in keys.filter(|key| !known.contains(&key.as_str())) {
        let near = |known: &&&str| distance(&key.to_ascii_lowercase(), known) <= 2;
        if let Some(meant) = known.iter().find(near) {
            return Err(ConfigError::Misspelt {
                path: path.to_owned(),
                key: key.clone(),
                meant,
            });
        }
        tracing::warn!(file = %path.display(), key, "this key of storage.conf is not known");
    }
    Ok(())
}

/// How many letters must be changed, added or taken away to make one word the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut costs: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.chars().enumerate() {
        let mut diagonal = costs[0];
        costs[0] = row + 1;
        for (column, target) in other.iter().enumerate() {
            let change = diagonal + usize::from(letter != *target);
            diagonal = costs[column + 1];
            costs[column + 1] = change.min(diagonal + 1).min(costs[column] + 1);
        }
    }
    costs[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_user_name_spaces_and_volatile_containers_are_read() {
        let config = load(
            "[storage.options]\nroot-auto-userns-user = \"pods\"\nauto-userns-min-size = 10\n\
             auto-userns-max-size = 20\ndisable-volatile = true\n",
        )
        .unwrap();
        assert_eq!(config.automatic_user.as_deref(), Some("pods"));
        assert_eq!(
            (config.automatic_min_size, config.automatic_max_size),
            (10, 20)
        );
        assert!(config.ignores_volatile);
        let error = load("[storage.options]\nauto-userns-max-size = -1\n").unwrap_err();
        assert!(
            error.to_string().contains("auto-userns-max-size"),
            "{error}"
        );
    }

    fn load(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("storage.conf");
        std::fs::write(&file, text).unwrap();
        Config::load(&Environment {
            config_file: Some(file),
            ..Default::default()
        })
    }

    #[test]
    fn the_files_of_distributions_are_understood() {
        let config = load(
            r#"
            [storage]
            driver = "overlay"
            graphroot = "/g/$UID"
            [storage.options]
            additionalimagestores = ["/a"]
            pull_options = {enable_partial_images = "true"}
            [storage.options.overlay]
            mountopt = "nodev,metacopy=on"
            "#,
        )
        .unwrap();
        assert_eq!(config.graph_root, Path::new("/g/0"));
        assert_eq!(config.run_root, Path::new(DEFAULT_RUN_ROOT));
        assert_eq!(config.options, ["overlay.mountopt=nodev,metacopy=on"]);
        assert_eq!(config.additional_image_stores, [Path::new("/a")]);
    }

    #[test]
    fn a_typo_is_an_error_that_names_the_file() {
        let error = load("[storage]\ndriver = \"overlay").unwrap_err();
        assert!(
            error.to_string().contains("storage.conf is not valid TOML"),
            "{error}"
        );
        let error = load("[storage]\ndriver = 1").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("storage.driver must be a string"),
            "{error}"
        );
    }

    #[test]
    fn a_misspelt_key_is_refused_and_a_foreign_one_passed_over() {
        let error = load("[storage]\ngraphrooot = \"/g\"")
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("there is no key graphrooot: graphroot is meant, perhaps"),
            "{error}"
        );
        assert!(load("[storage]\nGraphRoot = \"/g\"").is_err());
        assert!(load("[storages]\ndriver = \"vfs\"").is_err());
        assert!(load("graphroot = \"/g\"").is_err());
        assert!(load("[storage.options]\nadditionalimagestore = [\"/g\"]").is_err());
        assert!(
            load("[storage.options]\nremap-user = \"u\"\n[storage.options.thinpool]\nfs = \"xfs\"")
                .is_ok()
        );
        assert!(load("[storage]\nsomething_new = 1\n[engine]\nx = 1").is_ok());
    }

    #[test]
    fn arrays_are_replaced_unless_they_ask_to_be_appended() {
        let mut base = parse(Path::new("x"), b"a = [1]\nb = [1]").unwrap();
        merge(
            &mut base,
            parse(Path::new("x"), b"a = [2]\nb = [2, {append=true}]").unwrap(),
        );
        assert_eq!(base["a"].as_array().unwrap().len(), 1);
        assert_eq!(base["b"].as_array().unwrap().len(), 2);
    }
}
