//! Mount options: what belongs to the mount, what to overlay, and what Strata adds.

use crate::store::driver::DriverError;
use crate::sys::mount::Flags;

const METACOPY: &str = "metacopy=on";

/// Options of one mount, sorted by who they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Properties of the mount.
    pub(super) flags: Flags,
    /// Options of the file system.
    pub(super) data: Vec<String>,
}

/// Sorts options.
///
/// # Errors
/// When one asks for a property that Strata does not give.
fn split<'a>(options: impl IntoIterator<Item = &'a str>) -> Result<Options, DriverError> {
    let mut split = Options::default();
    let flags = &mut split.flags;
    for option in options {
        match option {
            "ro" => flags.read_only = true,
            "rw" => flags.read_only = false,
            "nodev" => flags.no_devices = true,
            "dev" => flags.no_devices = false,
            "nosuid" => flags.no_set_id = true,
            "suid" => flags.no_set_id = false,
            "noexec" => flags.no_exec = true,
            "exec" => flags.no_exec = false,
            // One rule of three: the last one counts.
            "noatime" | "atime" | "relatime" | "strictatime" => {
                flags.no_access_time = option == "noatime";
                flags.strict_access_time = option == "strictatime";
            }
            "nostrictatime" => flags.strict_access_time = false,
            "nodiratime" => flags.no_directory_access_time = true,
            "diratime" => flags.no_directory_access_time = false,
            "defaults" | "async" | "norelatime" | "" => {}
            "bind" | "rbind" | "remount" => {
                return Err(DriverError::MountOption(option.to_owned()));
            }
            _ => split.data.push(option.to_owned()),
        }
    }
    Ok(split)
}

/// The options of a mount: the caller's, or when there are none the configured ones.
///
/// `metacopy=on` is a matter of the home and not of a caller: it is in all mounts or in none.
///
/// # Errors
/// When one asks for a property that Strata does not give.
pub(super) fn choose(
    given: &[String],
    configured: &[String],
    is_rootless: bool,
) -> Result<Options, DriverError> {
    let chosen = if given.is_empty() { configured } else { given };
    let mut options = split(chosen.iter().map(String::as_str))?;
    options.data.retain(|option| option != METACOPY);
    if uses_metacopy(configured, is_rootless) {
        options.data.push(METACOPY.to_owned());
    }
    if is_rootless {
        options.data.retain(|option| option != "userxattr");
        options.data.push("userxattr".to_owned());
    }
    Ok(options)
}

/// True when the configured options ask for `metacopy`, and the kernel allows it: not for user attributes.
pub(super) fn uses_metacopy(configured: &[String], is_rootless: bool) -> bool {
    !is_rootless && configured.iter().any(|option| option == METACOPY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(options: &[&str]) -> Vec<String> {
        options.iter().map(|option| (*option).to_owned()).collect()
    }

    #[test]
    fn generic_options_become_properties_of_the_mount() {
        let given = strings(&["nodev", "index=off", "ro", "noatime", "nosuid", "suid"]);
        let Options { flags, data } = choose(&given, &[], false).unwrap();
        let expected = Flags {
            read_only: true,
            no_devices: true,
            no_access_time: true,
            ..Flags::default()
        };
        assert_eq!(flags, expected);
        assert_eq!(data, ["index=off"]);
        assert!(choose(&strings(&["remount"]), &[], false).is_err());
        let times = |given: &[&str]| choose(&strings(given), &[], false).unwrap().flags;
        let flags = times(&["noatime", "nodiratime", "strictatime"]);
        assert!(flags.strict_access_time && flags.no_directory_access_time);
        assert!(!flags.no_access_time);
        assert_eq!(
            times(&["strictatime", "nodiratime", "relatime", "diratime"]),
            Flags::default()
        );
        assert!(times(&["strictatime", "noatime"]).no_access_time);
    }

    #[test]
    fn metacopy_is_in_all_mounts_or_in_none() {
        let metacopy = strings(&["nodev", "metacopy=on"]);
        let other = strings(&["nosuid"]);
        for (given, configured, is_rootless, expected) in [
            (&other, &metacopy, false, &["metacopy=on"][..]),
            (&Vec::new(), &metacopy, false, &["metacopy=on"]),
            (&metacopy, &other, false, &[]),
            (&metacopy, &metacopy, true, &["userxattr"]),
        ] {
            let options = choose(given, configured, is_rootless).unwrap();
            assert_eq!(options.data, expected);
        }
    }
}
