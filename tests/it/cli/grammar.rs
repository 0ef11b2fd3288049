//! Usage, mistakes, and help.

use super::strata;

#[test]
fn nothing_to_do_prints_the_usage_and_fails() {
    for arguments in [&[][..], &["--debug"], &["--"]] {
        let ran = strata(arguments);
        assert_eq!(ran.code, 1);
        assert!(
            ran.out
                .starts_with("Usage: strata command [options [...]]\n\nCommands:\n")
        );
        assert!(ran.out.contains("\n  create-layer  "), "{}", ran.out);
        assert!(ran.out.ends_with("\nOptions:\n"));
        assert!(ran.err.contains("\n  --graph, -g  "), "{}", ran.err);
    }
}

#[test]
fn help_of_the_program_succeeds_and_of_a_command_is_125() {
    assert_eq!(strata(&["--help"]).code, 0);
    assert_eq!(strata(&["-h"]).code, 0);
    let ran = strata(&["-g", "/x", "createlayer", "--help"]);
    assert_eq!(ran.code, 125);
    assert!(
        ran.out
            .starts_with("Usage: strata create-layer [options [...]] [parentLayer")
    );
    assert!(ran.err.contains("  --graph, -g=/x  "), "{}", ran.err);
    assert!(ran.err.contains("  --name, -n=[]  "), "{}", ran.err);
}

#[test]
fn a_bad_flag_before_the_command_is_1_with_usage() {
    let ran = strata(&["--bogus", "layers"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err
            .starts_with("flag provided but not defined: --bogus\nSee 'strata --help'.\n")
    );
    let first = ran.out.lines().next().unwrap();
    assert_eq!(
        first,
        "flag provided but not defined: --bogus while parsing arguments (1)"
    );
}

#[test]
fn a_bad_flag_after_the_command_is_125_with_two_lines() {
    let cases = [
        (
            &["layers", "--bogus"][..],
            "flag provided but not defined: --bogus",
            "layers",
        ),
        (
            &["layers", "-xj"],
            "flag provided but not defined: -xj",
            "layers",
        ),
        (&["umount", "-g"], "flag needs an argument: -g", "umount"),
        (
            &["diff", "--file"],
            "flag needs an argument: --file",
            "diff",
        ),
        (
            &["get-image-data", "-j"],
            "flag provided but not defined: -j",
            "get-image-data",
        ),
    ];
    for (arguments, text, command) in cases {
        let ran = strata(arguments);
        assert_eq!(ran.code, 125, "{arguments:?}");
        assert_eq!(ran.out, "");
        assert_eq!(ran.err, format!("{text}\nSee 'strata {command} --help'.\n"));
    }
}

#[test]
fn unknown_commands_and_wrong_counts_are_told_on_stdout() {
    for name in ["frob", "", "-"] {
        let ran = strata(&[name]);
        assert_eq!((ran.code, ran.err.as_str()), (1, ""));
        assert_eq!(ran.out, format!("{name}: unrecognized command.\n"));
    }
    let ran = strata(&["getimagedata", "x"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.out
            .starts_with("getimagedata: more arguments required.\nUsage: strata get-im")
    );
    let ran = strata(&["layers", "--", "a", "b"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.out
            .starts_with("layers: too many arguments ([a b]).\nUsage: strata layers [")
    );
}

#[test]
fn the_version_is_a_line_on_stderr_or_json_on_stdout() {
    let version = env!("CARGO_PKG_VERSION");
    let ran = strata(&["version"]);
    assert_eq!(
        (ran.code, ran.out, ran.err),
        (0, String::new(), format!("Version: {version}\n"))
    );
    let ran = strata(&["version", "--json"]);
    assert_eq!(ran.out, format!("[[\"Version\",\"{version}\"]]\n"));
}

#[test]
fn own_commands_have_the_help_of_clap() {
    let ran = strata(&["pull", "--help"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(
        ran.out.contains("Usage: strata pull [OPTIONS] <REFERENCE>"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("--graph"), "{}", ran.out);
    let ran = strata(&["pull", "--jsno", "x"]);
    assert_eq!(ran.code, 125);
    assert!(ran.err.contains("'--json'"), "{}", ran.err);
    let ran = strata(&["help", "pull"]);
    assert!(ran.out.contains("Usage: strata pull"), "{}", ran.out);
    assert_eq!(strata(&["help"]).code, 0);
    assert_eq!(strata(&["help", "frob"]).code, 1);
}

#[test]
fn completion_and_manual_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = strata(&["completion", shell]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        assert!(ran.out.contains("create-container"), "{shell}");
    }
    let ran = strata(&["completion", "tcsh"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("hint: name bash, zsh or fish"),
        "{}",
        ran.err
    );
    let ran = strata(&["man"]);
    assert_eq!(ran.code, 0);
    assert!(
        ran.out.starts_with(".ie ") || ran.out.starts_with(".TH"),
        "{}",
        &ran.out[..80]
    );
    assert!(ran.out.contains("STRATA CREATE\\-CONTAINER"));
}
