//! Generates the code of the interface.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=cri.proto");
    let files = protox::compile(["cri.proto"], ["."])?;
    Ok(tonic_prost_build::configure().compile_fds(files)?)
}
