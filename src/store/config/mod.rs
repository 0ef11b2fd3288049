//! [`Config`]: where a store is and how it works, from `storage.conf` and from what the caller says.

mod files;
mod keys;
mod paths;
mod reader;

use std::path::{Path, PathBuf};

use toml::Table;

use crate::sys;
use paths::expand;
use reader::Reader;

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
    /// All variables: paths in the files may name any.
    pub variables: Vec<(String, String)>,
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

impl Config {
    /// A store in two given roots, everything else by default.
    pub fn in_roots(graph_root: impl Into<PathBuf>, run_root: impl Into<PathBuf>) -> Self {
        Self {
            graph_root: graph_root.into(),
            run_root: run_root.into(),
            ..Self::default()
        }
    }

    /// All options of the driver as peers list them: additional image stores are some of them there.
    pub fn listed_options(&self) -> Vec<String> {
        let stores = self.additional_image_stores.iter();
        let stores = stores.map(|root| format!("imagestore={}", root.display()));
        stores.chain(self.options.iter().cloned()).collect()
    }

    /// What the files and the environment say.
    ///
    /// # Errors
    /// When a file can't be read or understood, or a key is misspelt. Other unknown keys are logged.
    pub fn load(environment: &Environment) -> Result<Self, ConfigError> {
        let mut merged = Table::new();
        let mut last = PathBuf::from("storage.conf");
        for path in files::files(environment)? {
            let over = files::parse(&path, &files::read(&path)?)?;
            files::merge(&mut merged, over);
            last = path;
        }
        let mut config = Self::from_table(&merged, &last, environment)?;
        if let Some(driver) = &environment.driver {
            config.driver = Some(driver.clone());
        }
        if let Some(options) = &environment.options {
            config.additional_image_stores.clear();
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
        keys::check_keys(table, path)?;
        let root = |key: &str, default: PathBuf| -> Result<PathBuf, ConfigError> {
            Ok(match reader.text(key)? {
                None => default,
                Some(text) => paths::resolve(&expand(&text, environment)),
            })
        };
        // The older name of a user's graph root, which the newer one overrides.
        let graph_root = match environment.is_rootless() {
            true => root(
                "storage.rootless_storage_path",
                environment.default_graph_root(),
            )?,
            false => environment.default_graph_root(),
        };
        let mut options = Vec::new();
        for root in reader.texts("storage.options.additionallayerstores")? {
            let root = expand(&root, environment);
            options.push(format!("additionallayerstore={}", root.display()));
        }
        for key in keys::GENERAL {
            let full = format!("storage.options.{key}");
            let text = match reader.find(&full) {
                None => None,
                Some(value) => {
                    Some(reader::scalar(key, value).ok_or_else(|| reader.fail(&full, "a string"))?)
                }
            };
            options.extend(
                text.filter(|text| !text.is_empty())
                    .map(|text| format!("{key}={text}")),
            );
        }
        for (driver, known) in keys::DRIVERS {
            for (key, text) in reader.pairs(&format!("storage.options.{driver}"))? {
                if known.contains(&&*key) && !text.is_empty() {
                    options.push(format!("{driver}.{key}={text}"));
                }
            }
        }
        Ok(Self {
            no_id_mapped_mounts: false,
            graph_root: root("storage.graphroot", graph_root)?,
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
            pull_options: reader.pairs("storage.options.pull_options")?,
        })
    }
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
    fn a_user_has_a_graph_root_of_the_older_name_or_the_newer() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("storage.conf");
        let root = |text: &str, user| {
            std::fs::write(&file, format!("[storage]\n{text}")).unwrap();
            let environment = Environment {
                config_file: Some(file.clone()),
                home: Some("/h".into()),
                user,
                ..Default::default()
            };
            Config::load(&environment).unwrap().graph_root
        };
        let older = "rootless_storage_path = \"/h/s-$UID\"\n";
        let both = format!("{older}graphroot = \"/g\"\n");
        assert_eq!(root(older, 7), Path::new("/h/s-7"));
        assert_eq!(root(&both, 7), Path::new("/g"));
        assert_eq!(root(older, 0), Path::new(DEFAULT_GRAPH_ROOT));
        assert_eq!(root("", 7), Path::new("/h/.local/share/containers/storage"));
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
        let error = load("[storage.options.overlay]\nmountopts = \"nodev\"").unwrap_err();
        assert!(
            error.to_string().ends_with("mountopt is meant, perhaps"),
            "{error}"
        );
        assert!(load("[storage.options.vfs]\nignore_chown_error = \"true\"").is_err());
        // What a newer peer reads is no reason to fail.
        let config = load("[storage.options.overlay]\nbrand_new = \"x\"\nsize = 10").unwrap();
        assert_eq!(config.options, ["overlay.size=10"]);
    }
}
