//! Compiles the interface definitions below `proto` when the node plugin is built; nothing else.

use std::error::Error;

#[cfg(feature = "node")]
const DEFINITIONS: [&str; 2] = ["csi/csi.proto", "pluginregistration/registration.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=proto");
    #[cfg(feature = "node")]
    compile()?;
    Ok(())
}

#[cfg(feature = "node")]
fn compile() -> Result<(), Box<dyn Error>> {
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo gives OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(DEFINITIONS)?;
    // With the options that the definition invents, which the decoded form has no fields for: the test
    // that compares it with the published one reads this file.
    #[expect(
        clippy::disallowed_methods,
        reason = "a build script is not the program"
    )]
    std::fs::write(
        out.join("descriptors.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    let descriptors = compiler.file_descriptor_set();
    tonic_prost_build::configure()
        .generate_default_stubs(true)
        .out_dir(&out)
        .compile_fds(descriptors)?;
    Ok(())
}
