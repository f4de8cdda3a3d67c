//! What the user can set, and where each value came from.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::error::ErrorBody;
use crate::spec::{CPUS, MEMORY};
use crate::units::MiB;

/// Language of the surface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
pub enum Language {
    /// As the desktop.
    #[default]
    #[serde(rename = "system")]
    System,
    /// English.
    #[serde(rename = "en")]
    English,
    /// 简体中文.
    #[serde(rename = "zh-CN")]
    SimplifiedChinese,
}

/// Colours of the surface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    /// As the desktop.
    #[default]
    System,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

/// What closing the window does; machines go on in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum CloseAction {
    /// Ask, and offer to remember.
    #[default]
    Ask,
    /// Stay in the tray.
    Tray,
    /// Quit the app.
    Quit,
}

/// Everything a user can set; stored as the topmost layer over the environment, the TOML file and the defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {
    /// Language of the surface.
    pub language: Language,
    /// Colours of the surface.
    pub theme: Theme,
    /// What closing the window does.
    pub close_action: CloseAction,
    /// Memory of a new machine.
    pub default_memory: MiB,
    /// Virtual CPUs of a new machine.
    pub default_cpus: u16,
    /// How many machines may start at one time, 1 to 64.
    pub max_concurrent_starts: u16,
    /// How many machines may stop at one time, 1 to 64.
    pub max_concurrent_stops: u16,
    /// How many of each machine's newest snapshots with memory are made ready to go on from at once, 0 to 20; they take about as
    /// much room again as their memory.
    pub prepared_snapshots: u16,
    /// Seconds a guest has to shut down before voidVM asks what to do, 1 to 3600.
    pub stop_timeout_seconds: u32,
    /// How many layers a disk may stand on before what they hold is copied together, 8 to 150: a disk is read through all of them.
    pub max_disk_layers: u16,
    /// The QEMU to run; found on PATH when empty.
    pub qemu_binary: String,
    /// Whether the local API listens on 127.0.0.1 (always so for `voidvm serve`).
    pub local_api: bool,
    /// Its port, 1024 to 65535.
    pub local_api_port: u16,
    /// Where updates are announced (https); no updates are looked for when empty.
    pub update_endpoint: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            language: Language::System,
            theme: Theme::System,
            close_action: CloseAction::Ask,
            default_memory: MiB(1024),
            default_cpus: 1,
            max_concurrent_starts: 5,
            max_concurrent_stops: 10,
            prepared_snapshots: 2,
            stop_timeout_seconds: 60,
            max_disk_layers: 32,
            qemu_binary: String::new(),
            local_api: false,
            local_api_port: 7770,
            update_endpoint: String::new(),
        }
    }
}

impl Settings {
    /// Checks every value and names all that do not hold, not the first alone; empty when all is well.
    ///
    /// `field` is the setting's wire name.
    #[must_use]
    pub fn problems(&self) -> Vec<ErrorBody> {
        let mut found = Vec::new();
        let mut bound = |field: &str, value: u64, range: std::ops::RangeInclusive<u64>, unit: &str| {
            if !range.contains(&value) {
                found.push(
                    ErrorBody::invalid(field, format!("{field} is {value}{unit}.")).with_hint(format!(
                        "Choose {} to {}{unit}.",
                        range.start(),
                        range.end()
                    )),
                );
            }
        };
        bound("defaultMemory", self.default_memory.0, MEMORY, " MiB");
        bound("defaultCpus", self.default_cpus.into(), u64::from(*CPUS.start())..=u64::from(*CPUS.end()), "");
        bound("maxConcurrentStarts", self.max_concurrent_starts.into(), 1..=64, "");
        bound("maxConcurrentStops", self.max_concurrent_stops.into(), 1..=64, "");
        bound("preparedSnapshots", self.prepared_snapshots.into(), 0..=20, "");
        bound("maxDiskLayers", self.max_disk_layers.into(), 8..=150, "");
        bound("stopTimeoutSeconds", self.stop_timeout_seconds.into(), 1..=3600, " s");
        bound("localApiPort", self.local_api_port.into(), 1024..=65_535, "");
        if !self.qemu_binary.is_empty()
            && let Err(error) =
                crate::spec::validate_path("qemuBinary", std::path::Path::new(&self.qemu_binary))
        {
            found.push(error);
        }
        if !self.update_endpoint.is_empty() && !self.update_endpoint.starts_with("https://") {
            found.push(
                ErrorBody::invalid("updateEndpoint", "Updates are taken from an https address alone.")
                    .with_hint("Begin it with https://, or leave it empty."),
            );
        }
        found
    }
}

/// The layer a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum SettingOrigin {
    /// Built in.
    Default,
    /// `config.toml`.
    File,
    /// A `VOIDVM_…` variable.
    Environment,
    /// Set in the app.
    User,
}

/// The settings in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct SettingsView {
    /// The values.
    pub settings: Settings,
    /// For each key, the layer it came from.
    pub origins: BTreeMap<String, SettingOrigin>,
    /// The TOML file that is read.
    pub config_file: String,
    /// Where machines, images and the store are.
    pub data_dir: String,
    /// Where logs are.
    pub log_dir: String,
}
