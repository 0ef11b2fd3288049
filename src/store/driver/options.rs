//! Driver options: `[driver.]key=value`, by the rules of containers/storage since 1.63.

use std::path::PathBuf;

use super::{DriverError, DriverKind};

/// What the options ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverOptions {
    /// Mount options for mounts that bring none.
    pub mount_options: Vec<String>,
    /// Roots of additional image stores.
    pub additional_stores: Vec<PathBuf>,
    /// Failures to change an owner are passed over.
    pub ignore_chown_errors: bool,
    /// The home is not made a mount of its own.
    pub skip_mount_home: bool,
    /// Roots of additional layer stores.
    pub layer_stores: Vec<PathBuf>,
    /// The program that mounts in the kernel's place.
    pub mount_program: Option<PathBuf>,
    /// How many layers may lie below one.
    pub max_lowers: usize,
    /// How many bytes the layer of a container may hold.
    pub size: Option<u64>,
    /// How many files, directories and others.
    pub inodes: Option<u64>,
    /// The mode that all unpacked files and directories get; what they are meant to be goes into an attribute.
    pub force_mask: Option<u32>,
    /// The least that may be asked for as such.
    pub min_space: u64,
}

/// The kernel refuses an overlay of more.
const MAX_LOWERS: usize = 500;

impl Default for DriverOptions {
    fn default() -> Self {
        Self {
            mount_options: Vec::new(),
            additional_stores: Vec::new(),
            ignore_chown_errors: false,
            skip_mount_home: false,
            layer_stores: Vec::new(),
            mount_program: None,
            max_lowers: MAX_LOWERS,
            size: None,
            inodes: None,
            force_mask: None,
            min_space: 0,
        }
    }
}

const DRIVERS: [&str; 5] = ["overlay", "overlay2", "btrfs", "zfs", "vfs"];

fn is_true(value: &str, option: &str) -> Result<bool, DriverError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(DriverError::OptionValue {
            option: option.to_owned(),
            reason: "expected true or false",
        }),
    }
}

/// A number of bytes with a binary unit, as peers write them: `10G`, `512m`, `1.5 GiB`, `100`.
fn bytes(value: &str, option: &str) -> Result<u64, DriverError> {
    let refuse = || DriverError::OptionValue {
        option: option.to_owned(),
        reason: "expected a size such as 512m or 10G",
    };
    let end = value
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(value.len());
    let (number, unit) = value.split_at(end);
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let unit = unit.strip_suffix('i').unwrap_or(unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(refuse()),
    };
    let scale = 1_u64 << (10 * power);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().map_err(|_| refuse())?;
    let part = match fraction {
        "" => 0,
        // More digits than any unit has bytes say nothing.
        digits if digits.len() > 18 || !digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            return Err(refuse());
        }
        digits => {
            let numerator: u128 = digits.parse().map_err(|_| refuse())?;
            let denominator = 10_u128.pow(digits.len() as u32);
            u64::try_from(numerator * u128::from(scale) / denominator).map_err(|_| refuse())?
        }
    };
    whole
        .checked_mul(scale)
        .and_then(|size| size.checked_add(part))
        .ok_or_else(refuse)
}

/// A mode for everything: `shared`, `private`, or octal digits.
fn mask(value: &str, option: &str) -> Result<u32, DriverError> {
    let refuse = || DriverError::OptionValue {
        option: option.to_owned(),
        reason: "expected shared, private, or a mode in octal digits such as 0755",
    };
    match value {
        "shared" => Ok(0o755),
        "private" => Ok(0o700),
        // Else a sign would be read as well.
        digits if !digits.bytes().all(|digit| digit.is_ascii_digit()) => Err(refuse()),
        digits => match u32::from_str_radix(digits, 8) {
            Ok(mode) if mode <= 0o777 => Ok(mode),
            _ => Err(refuse()),
        },
    }
}

fn stores(value: &str, option: &str) -> Result<Vec<PathBuf>, DriverError> {
    let paths: Vec<PathBuf> = value
        .split(',')
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .collect();
    if paths.iter().any(|path| !path.is_absolute()) {
        return Err(DriverError::OptionValue {
            option: option.to_owned(),
            reason: "the path of an additional image store must be absolute",
        });
    }
    Ok(paths)
}

impl DriverOptions {
    /// Reads the options that are for `kind`; those of other drivers are passed over unread.
    ///
    /// # Errors
    /// When an option has no `=`, an unknown driver or key, or a value that can't be honoured.
    pub fn parse(kind: DriverKind, options: &[String]) -> Result<Self, DriverError> {
        let mut parsed = Self::default();
        for option in options {
            let (name, value) = option
                .split_once('=')
                .ok_or_else(|| DriverError::OptionSyntax(option.clone()))?;
            let name = name.to_ascii_lowercase();
            let key = match name.split_once('.') {
                None => &*name,
                Some((driver, key)) => {
                    if !driver.is_empty() && !DRIVERS.contains(&driver) {
                        let (driver, option) = (driver.to_owned(), option.clone());
                        return Err(DriverError::OptionDriver { driver, option });
                    }
                    let own = driver.strip_suffix('2').unwrap_or(driver);
                    if !driver.is_empty() && own != kind.as_str() {
                        continue;
                    }
                    key
                }
            };
            parsed.set(kind, key, value.trim(), option)?;
        }
        Ok(parsed)
    }

    fn set(
        &mut self,
        kind: DriverKind,
        key: &str,
        value: &str,
        option: &str,
    ) -> Result<(), DriverError> {
        let refuse = |reason| {
            Err(DriverError::OptionValue {
                option: option.to_owned(),
                reason,
            })
        };
        match (kind, key) {
            (_, "ignore_chown_errors") => self.ignore_chown_errors = is_true(value, option)?,
            (_, "imagestore" | "additionalimagestore") => {
                self.additional_stores.extend(stores(value, option)?);
            }
            (DriverKind::Overlay, "mountopt") => {
                self.mount_options = value
                    .split(',')
                    .filter(|option| !option.is_empty())
                    .map(str::to_owned)
                    .collect();
            }
            (DriverKind::Btrfs | DriverKind::Overlay, "size") => {
                self.size = Some(bytes(value, option)?);
            }
            (DriverKind::Btrfs, "min_space") => self.min_space = bytes(value, option)?,
            (DriverKind::Overlay, "skip_mount_home") => {
                self.skip_mount_home = is_true(value, option)?;
            }
            // Ours alone: releases of containers/storage before 1.44 mount no more than 128.
            (DriverKind::Overlay, "max_lowers") => match value.parse() {
                Ok(limit @ 1..=MAX_LOWERS) => self.max_lowers = limit,
                _ => return refuse("expected a number from 1 to 500"),
            },
            (DriverKind::Overlay, "override_kernel_check") => {}
            // Peers write this key of vfs into their files, and then refuse it.
            (DriverKind::Overlay | DriverKind::Vfs, "sync") => match value {
                "none" | "filesystem" => {}
                _ => return refuse("expected none or filesystem"),
            },
            (DriverKind::Overlay, "mount_program") => {
                if !value.starts_with('/') {
                    return refuse("expected the absolute path of a program");
                }
                self.mount_program = Some(value.into());
            }
            (DriverKind::Overlay, "inodes") => match value.parse() {
                Ok(inodes) => self.inodes = Some(inodes),
                Err(_) => return refuse("expected a number of inodes"),
            },
            (DriverKind::Overlay, "force_mask") => self.force_mask = Some(mask(value, option)?),
            (DriverKind::Overlay, "use_composefs") => {
                if is_true(value, option)? {
                    return refuse("composefs is not supported");
                }
            }
            (DriverKind::Overlay, "additionallayerstore") => {
                for store in value.split(',') {
                    // The flag `ref` says how an image is looked for, not where.
                    let (path, flag) = store.split_once(':').unwrap_or((store, "ref"));
                    if !path.starts_with('/') {
                        return refuse("the path of an additional layer store must be absolute");
                    }
                    if flag != "ref" {
                        return refuse("the only flag of an additional layer store is ref");
                    }
                    self.layer_stores.push(path.into());
                }
            }
            _ => {
                let (key, option) = (key.to_owned(), option.to_owned());
                return Err(DriverError::OptionKey { key, option });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(kind: DriverKind, option: &str) -> Result<DriverOptions, String> {
        DriverOptions::parse(kind, &[option.to_owned()]).map_err(|error| error.to_string())
    }

    #[test]
    fn options_of_other_drivers_are_passed_over_and_unknown_ones_are_named() {
        let overlay = DriverKind::Overlay;
        assert_eq!(
            parse(overlay, "vfs.nonsense=1"),
            Ok(DriverOptions::default())
        );
        assert_eq!(
            parse(overlay, "overlay2.mountopt=nodev,ro")
                .unwrap()
                .mount_options
                .len(),
            2
        );
        assert_eq!(
            parse(overlay, "Overlay.MountOpt=nodev")
                .unwrap()
                .mount_options,
            ["nodev"]
        );
        assert_eq!(
            parse(overlay, ".MountOpt=nodev").unwrap().mount_options,
            ["nodev"]
        );
        let message = parse(overlay, "x.y=1").unwrap_err();
        assert_eq!(message, r#"unknown driver "x" in option "x.y=1""#);
        let message = parse(overlay, "overlay.y=1").unwrap_err();
        assert_eq!(message, r#"unknown option "y" ("overlay.y=1")"#);
        let message = parse(overlay, "mountopt").unwrap_err();
        assert_eq!(message, "unable to parse key/value option: mountopt");
        assert!(parse(DriverKind::Vfs, "mountopt=nodev").is_err());
        let options = parse(overlay, "mount_program=/usr/bin/fuse-overlayfs").unwrap();
        assert!(options.mount_program.is_some());
        let options = parse(overlay, "additionallayerstore=/a:ref,/b").unwrap();
        assert_eq!(options.layer_stores, [Path::new("/a"), Path::new("/b")]);
        for bad in ["/a:deaf", "/a,b", "/a,", ""] {
            assert!(parse(overlay, &format!("additionallayerstore={bad}")).is_err());
        }
        assert!(parse(overlay, "mount_program=fuse-overlayfs").is_err());
    }

    #[test]
    fn sizes_have_binary_units() {
        for (text, expected) in [
            ("0", Some(0)),
            ("100", Some(100)),
            ("512m", Some(512 << 20)),
            ("10G", Some(10 << 30)),
            ("1.5 GiB", Some(3 << 29)),
            ("2kb", Some(2048)),
            ("0.001g", Some(1_073_741)),
            ("1.x", None),
            ("", None),
            ("G", None),
            ("-1", None),
            ("99999999P", None),
            ("1 day", None),
        ] {
            assert_eq!(bytes(text, "size").ok(), expected, "{text}");
        }
        let options = parse(DriverKind::Btrfs, "btrfs.min_space=1m").unwrap();
        assert_eq!(options.min_space, 1 << 20);
        assert!(parse(DriverKind::Vfs, "size=1m").is_err());
        let overlay = DriverKind::Overlay;
        assert_eq!(parse(overlay, "size=1g").unwrap().size, Some(1 << 30));
        assert_eq!(parse(overlay, "inodes=90").unwrap().inodes, Some(90));
        for option in ["size=much", "inodes=-1", "inodes=1k", "inodes="] {
            let message = parse(overlay, option).unwrap_err();
            assert!(
                message.starts_with(&format!("option {option:?}: expected")),
                "{message}"
            );
        }
        assert!(parse(DriverKind::Btrfs, "inodes=1").is_err());
    }

    #[test]
    fn a_mask_is_a_word_or_a_mode() {
        for (text, expected) in [
            ("shared", Some(0o755)),
            ("private", Some(0o700)),
            ("0750", Some(0o750)),
            ("700", Some(0o700)),
            ("0", Some(0)),
            ("1777", None),
            ("0o755", None),
            ("+755", None),
            ("-1", None),
            ("789", None),
            ("", None),
            ("public", None),
        ] {
            let parsed = parse(DriverKind::Overlay, &format!("force_mask={text}"));
            assert_eq!(
                parsed.ok().and_then(|options| options.force_mask),
                expected,
                "{text}"
            );
        }
    }
}
