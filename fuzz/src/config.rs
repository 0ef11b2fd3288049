//! `storage.conf`, with an override over it.

use std::fs;

use strata::store::{Config, Environment};

use super::plant;

/// The text up to a NUL is the file, the rest the override.
pub fn run(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let folder = super::folder();
    let (file, over) = (folder.join("storage.conf"), folder.join("override.conf"));
    fs::write(&file, parts.next().unwrap_or_default()).expect("a file can be written");
    fs::write(&over, parts.next().unwrap_or_default()).expect("a file can be written");
    let environment = Environment {
        config_file: Some(file.clone()),
        override_file: Some(over.clone()),
        home: Some("/home/user".into()),
        user: 1000,
        ..Environment::default()
    };
    let loaded = Config::load(&environment);
    drop(fs::remove_file(&file));
    drop(fs::remove_file(&over));
    match loaded {
        Ok(config) => {
            plant::bug(config.driver.is_some_and(|driver| driver.contains('~')));
            assert!(config.options.iter().all(|option| option.contains('=')));
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty(), "an error says something");
        }
    }
}
