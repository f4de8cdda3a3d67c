//! What Tauri generates at compile time. The configuration is at the root; capabilities stay beside the shell.

/// The shell's own commands: each needs a permission of its own in `capabilities/`.
const COMMANDS: &[&str] = &[
    "rpc",
    "subscribe",
    "unsubscribe",
    "save_file",
    "close_choice",
    "painted",
    "updater_check",
    "updater_install",
    "updater_restart",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let attributes = tauri_build::Attributes::new()
        .capabilities_path_pattern("./src-tauri/capabilities/**/*")
        .app_manifest(tauri_build::AppManifest::new().commands(COMMANDS));
    Ok(tauri_build::try_build(attributes)?)
}
