//! Configuration in layers: defaults < `config.toml` < `VOIDVM_…` variables < what was set in the app.
//!
//! There is one list of keys, the fields of [`Settings`]: `maxConcurrentStarts` on the wire is `max_concurrent_starts` in the
//! file and `VOIDVM_MAX_CONCURRENT_STARTS` in the environment. Reading never stops at the first mistake: every wrong value is
//! left out of its layer and named in [`Config::problems`], so that `voidvm doctor` and the app can show all of them, while
//! [`Config::check`] refuses to run on any.

use std::collections::BTreeMap;
use std::path::PathBuf;

use heck::{ToShoutySnakeCase as _, ToSnakeCase as _};
use serde_json::{Map, Value};
use voidvm_model::settings::{SettingOrigin, Settings, SettingsView};
use voidvm_model::units::ParseSizeError;
use voidvm_model::{Bytes, ErrorBody, ErrorCode};

use crate::directories::{Directories, io_error};
use crate::environment::Environment;

/// The largest `config.toml` that is read.
const FILE_MAX: u64 = 1 << 20;

/// What the command line says about configuration.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
}

/// Where everything is, and the layers of settings below the app's own.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything is.
    pub directories: Directories,
    /// The settings' layers.
    pub layers: Layers,
    /// `VOIDVM_POOL_FLOOR`: the free space that pools keep where nobody has said otherwise; the built-in one without.
    pub floor: Option<Bytes>,
    /// What was wrong in the file and the environment; none of it is in force.
    pub problems: Vec<ErrorBody>,
    environment: Environment,
}

impl Config {
    /// Reads the file and the environment of this process.
    ///
    /// # Errors
    /// [`ErrorCode::ConfigInvalid`] when there is no place for files at all. Wrong values are no error here but
    /// [`Config::problems`].
    pub fn load(overrides: &Overrides) -> Result<Self, ErrorBody> {
        Self::load_from(overrides, Environment::of_process())
    }

    /// Reads the file and the given environment.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_from(overrides: &Overrides, environment: Environment) -> Result<Self, ErrorBody> {
        let directories = Directories::find(overrides.data_dir.as_deref(), &environment)?;
        let mut problems = Vec::new();
        let mut layers = Layers::default();
        match read_file(&directories) {
            Ok(Some(text)) => layers.file = parse_file(&text, &mut problems),
            Ok(None) => {}
            Err(error) => problems.push(error),
        }
        layers.environment = parse_environment(&environment, &mut problems);
        let floor = parse_floor(&environment, &mut problems);
        Ok(Self { directories, layers, floor, problems, environment })
    }

    /// Refuses a configuration with mistakes.
    ///
    /// # Errors
    /// [`ErrorCode::ConfigInvalid`] naming the first, with all of them in `details.problems`.
    pub fn check(&self) -> Result<(), ErrorBody> {
        let Some(first) = self.problems.first() else { return Ok(()) };
        let mut error = first.clone();
        if self.problems.len() > 1 {
            let more = self.problems.len() - 1;
            let (is, mistake) = if more == 1 { ("is", "mistake") } else { ("are", "mistakes") };
            error.message = format!("{} There {is} {more} more {mistake}.", error.message);
        }
        let all: Vec<Value> = self.problems.iter().filter_map(|one| serde_json::to_value(one).ok()).collect();
        Err(error.with_detail("problems", all))
    }

    /// The environment it was read from.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }
}

/// Values by their wire names.
pub type Values = BTreeMap<String, Value>;

/// The settings' layers; the later ones win. Each holds only keys of [`Settings`], each value valid by itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layers {
    /// `config.toml`.
    pub file: Values,
    /// `VOIDVM_…`.
    pub environment: Values,
    /// Set in the app.
    pub user: Values,
}

impl Layers {
    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.merged([&self.file, &self.environment, &self.user])
    }

    /// The layer each key's value comes from.
    #[must_use]
    pub fn origins(&self) -> BTreeMap<String, SettingOrigin> {
        defaults()
            .keys()
            .map(|key| {
                let origin = if self.user.contains_key(key) {
                    SettingOrigin::User
                } else if self.environment.contains_key(key) {
                    SettingOrigin::Environment
                } else if self.file.contains_key(key) {
                    SettingOrigin::File
                } else {
                    SettingOrigin::Default
                };
                (key.clone(), origin)
            })
            .collect()
    }

    /// Takes what was set in the app before; rows that hold no longer are left out and returned.
    pub fn take_user(&mut self, rows: Values) -> Vec<ErrorBody> {
        let mut problems = Vec::new();
        self.user = rows
            .into_iter()
            .filter(|(key, value)| match accept(key, value) {
                Ok(()) => true,
                Err(mut found) => {
                    problems.append(&mut found);
                    false
                }
            })
            .collect();
        problems
    }

    /// What the topmost layer has to hold so that `wanted` is in force: only values that differ from those below.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidInput`] with the first field that does not hold, and all of them in `details.problems`.
    pub fn user_for(&self, wanted: &Settings) -> Result<Values, ErrorBody> {
        let problems = wanted.problems();
        if let Some(first) = problems.first() {
            let mut error = first.clone();
            error.field = error.field.map(|field| format!("settings.{field}"));
            let all: Vec<Value> = problems.iter().filter_map(|one| serde_json::to_value(one).ok()).collect();
            return Err(error.with_detail("problems", all));
        }
        let below = object(&self.merged([&self.file, &self.environment]));
        Ok(object(wanted).into_iter().filter(|(key, value)| below.get(key) != Some(value)).collect())
    }

    /// What the app shows.
    #[must_use]
    pub fn view(&self, directories: &Directories) -> SettingsView {
        SettingsView {
            settings: self.settings(),
            origins: self.origins(),
            config_file: directories.config_file.display().to_string(),
            data_dir: directories.data.display().to_string(),
            log_dir: directories.logs().display().to_string(),
        }
    }

    #[expect(clippy::unused_self, reason = "reads as the layers' own merge")]
    fn merged<const N: usize>(&self, layers: [&Values; N]) -> Settings {
        let mut all = defaults();
        for layer in layers {
            all.extend(layer.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        serde_json::from_value(Value::Object(all)).unwrap_or_default()
    }
}

fn object(settings: &Settings) -> Map<String, Value> {
    match serde_json::to_value(settings) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// Every key with its built-in value: the one list of keys.
fn defaults() -> Map<String, Value> {
    object(&Settings::default())
}

/// Whether a value holds for a key, all else being as built in.
fn accept(key: &str, value: &Value) -> Result<(), Vec<ErrorBody>> {
    let mut all = defaults();
    if all.insert(key.to_owned(), value.clone()).is_none() {
        return Err(vec![ErrorBody::invalid(key, format!("There is no setting {key}."))]);
    }
    match serde_json::from_value::<Settings>(Value::Object(all)) {
        Ok(settings) => {
            let problems = settings.problems();
            if problems.is_empty() { Ok(()) } else { Err(problems) }
        }
        Err(error) => Err(vec![ErrorBody::invalid(key, format!("{key} cannot be {value}: {error}."))]),
    }
}

/// Turns what was found wrong into an error that names the place a person has to look at.
fn wrong(place: &str, key: &str, found: &ErrorBody) -> ErrorBody {
    let mut error =
        ErrorBody::new(ErrorCode::ConfigInvalid, format!("{place}: {}", found.message)).with_field(key);
    error.hint.clone_from(&found.hint);
    error
}

fn read_file(directories: &Directories) -> Result<Option<String>, ErrorBody> {
    let path = &directories.config_file;
    let as_config = |mut error: ErrorBody| {
        error.code = ErrorCode::ConfigInvalid;
        error
    };
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(as_config(io_error("read", path, &error))),
    };
    if meta.len() > FILE_MAX || !meta.is_file() {
        return Err(ErrorBody::new(
            ErrorCode::ConfigInvalid,
            format!("{} is no configuration file of at most 1 MiB.", path.display()),
        )
        .with_hint("Move it away."));
    }
    std::fs::read_to_string(path).map(Some).map_err(|error| as_config(io_error("read", path, &error)))
}

/// Reads the text of a `config.toml`; what is wrong goes to `problems` and is left out.
pub fn parse_file(text: &str, problems: &mut Vec<ErrorBody>) -> Values {
    let table = match text.parse::<toml::Table>() {
        Ok(table) => table,
        Err(error) => {
            let line =
                error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            problems.push(
                ErrorBody::new(
                    ErrorCode::ConfigInvalid,
                    format!("config.toml, line {line}: {}.", error.message().replace('\n', " ")),
                )
                .with_hint("Mend the line, or remove it.")
                .with_detail("line", line),
            );
            return Values::new();
        }
    };
    let known: BTreeMap<String, String> =
        defaults().keys().map(|key| (key.to_snake_case(), key.clone())).collect();
    let mut values = Values::new();
    for (name, value) in table {
        let Some(key) = known.get(&name) else {
            problems.push(
                ErrorBody::new(
                    ErrorCode::ConfigInvalid,
                    format!("config.toml: there is no setting {name:?}."),
                )
                .with_field(name.clone())
                .with_hint(nearest(&name, known.keys())),
            );
            continue;
        };
        let value = match serde_json::to_value(&value) {
            Ok(value) => value,
            Err(error) => {
                problems.push(wrong("config.toml", &name, &ErrorBody::invalid(key, error.to_string())));
                continue;
            }
        };
        match accept(key, &value) {
            Ok(()) => {
                values.insert(key.clone(), value);
            }
            Err(found) => problems.extend(found.iter().map(|one| wrong("config.toml", &name, one))),
        }
    }
    values
}

fn parse_environment(environment: &Environment, problems: &mut Vec<ErrorBody>) -> Values {
    let mut values = Values::new();
    for (key, built_in) in defaults() {
        let variable = format!("VOIDVM_{}", key.to_shouty_snake_case());
        let Some(text) = environment.get(&variable) else { continue };
        let text = text.to_string_lossy();
        let value = match (&built_in, text.as_ref()) {
            (Value::Bool(_), "true" | "1" | "yes" | "on") => Value::Bool(true),
            (Value::Bool(_), "false" | "0" | "no" | "off") => Value::Bool(false),
            (Value::Number(_), digits) => {
                digits.parse::<u64>().map_or_else(|_| Value::String(digits.to_owned()), Value::from)
            }
            (_, text) => Value::String(text.to_owned()),
        };
        match accept(&key, &value) {
            Ok(()) => {
                values.insert(key, value);
            }
            Err(found) => problems.extend(found.iter().map(|one| wrong(&variable, &variable, one))),
        }
    }
    values
}

/// No setting: each pool has its own floor, this one is for pools without.
const FLOOR: &str = "VOIDVM_POOL_FLOOR";

fn parse_floor(environment: &Environment, problems: &mut Vec<ErrorBody>) -> Option<Bytes> {
    let text = environment.get(FLOOR)?.to_string_lossy();
    let wrong = |error: ParseSizeError| wrong(FLOOR, FLOOR, &ErrorBody::invalid(FLOOR, format!("{error}.")));
    text.parse().map_err(|error| problems.push(wrong(error))).ok()
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> String {
    // A name as long as the file allows would cost its square; nothing that long is near anything.
    let close = known
        .filter(|_| name.len() <= 64)
        .map(|candidate| (strsim::levenshtein(name, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= candidate.len() / 3);
    match close {
        Some((_, candidate)) => format!("Did you mean {candidate}?"),
        None => "Remove the line.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use voidvm_model::MiB;

    use super::*;

    fn config(file: &str, variables: &[(&str, &str)]) -> (tempfile::TempDir, Config) {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("config/voidvm");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("config.toml"), file).unwrap();
        let home = root.path().display().to_string();
        let config_home = root.path().join("config").display().to_string();
        let all = [("HOME", home.as_str()), ("XDG_CONFIG_HOME", config_home.as_str())];
        let environment = Environment::of(all.iter().chain(variables).map(|(name, value)| (*name, *value)));
        let config = Config::load_from(&Overrides::default(), environment).unwrap();
        (root, config)
    }

    #[test]
    fn later_layers_win_and_are_named() {
        let (_root, mut config) = config(
            "default_memory = 2048\ndefault_cpus = 2\ntheme = 'dark'\n",
            &[("VOIDVM_DEFAULT_CPUS", "3"), ("VOIDVM_LOCAL_API", "on"), ("VOIDVM_POOL_FLOOR", "64M")],
        );
        assert_eq!(config.problems, []);
        config.check().unwrap();
        assert!(config.layers.take_user([("theme".to_owned(), "light".into())].into()).is_empty());
        assert_eq!(config.floor, Some(Bytes(64 << 20)));
        let settings = config.layers.settings();
        assert_eq!(settings.default_memory, MiB(2048));
        assert_eq!(settings.default_cpus, 3);
        assert!(settings.local_api);
        assert_eq!(settings.theme, voidvm_model::settings::Theme::Light);
        let origins = config.layers.origins();
        assert_eq!(origins["defaultMemory"], SettingOrigin::File);
        assert_eq!(origins["defaultCpus"], SettingOrigin::Environment);
        assert_eq!(origins["theme"], SettingOrigin::User);
        assert_eq!(origins["language"], SettingOrigin::Default);
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let (_root, config) = config(
            "default_memory = 'much'\ndefalt_cpus = 2\nlocal_api_port = 80\ntheme = 'dark'\nmax_concurrent_starts = 0\n",
            &[
                ("VOIDVM_STOP_TIMEOUT_SECONDS", "soon"),
                ("VOIDVM_LOCAL_API", "maybe"),
                ("VOIDVM_POOL_FLOOR", "some"),
                ("VOIDVM_UNRELATED", "x"),
            ],
        );
        let mut fields: Vec<&str> = config.problems.iter().filter_map(|one| one.field.as_deref()).collect();
        fields.sort_unstable();
        assert_eq!(
            fields,
            [
                "VOIDVM_LOCAL_API",
                "VOIDVM_POOL_FLOOR",
                "VOIDVM_STOP_TIMEOUT_SECONDS",
                "defalt_cpus",
                "default_memory",
                "local_api_port",
                "max_concurrent_starts"
            ]
        );
        assert!(config.problems.iter().all(|one| one.code == ErrorCode::ConfigInvalid));
        let misspelt =
            config.problems.iter().find(|one| one.field.as_deref() == Some("defalt_cpus")).unwrap();
        assert_eq!(misspelt.hint.as_deref(), Some("Did you mean default_cpus?"));
        // What holds is in force all the same, what does not is not.
        assert_eq!(config.layers.settings().theme, voidvm_model::settings::Theme::Dark);
        assert_eq!(config.layers.settings().local_api_port, 7770);
        let refused = config.check().unwrap_err();
        assert_eq!(refused.details.unwrap()["problems"].as_array().unwrap().len(), 7);
    }

    #[test]
    fn broken_toml_names_its_line() {
        let (_root, config) = config("theme = 'dark'\ndefault_cpus = = 2\n", &[]);
        assert_eq!(config.problems.len(), 1);
        assert!(config.problems[0].message.contains("line 2"), "{}", config.problems[0].message);
    }

    #[test]
    fn only_what_differs_is_stored() {
        let (_root, config) = config("default_memory = 2048\n", &[]);
        let mut wanted = config.layers.settings();
        assert!(config.layers.user_for(&wanted).unwrap().is_empty());
        wanted.default_memory = MiB(1024);
        assert_eq!(
            config.layers.user_for(&wanted).unwrap(),
            Values::from([("defaultMemory".to_owned(), 1024.into())])
        );
        wanted.local_api_port = 80;
        let error = config.layers.user_for(&wanted).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("settings.localApiPort"));
    }

    #[test]
    fn rows_of_another_version_do_no_harm() {
        let mut layers = Layers::default();
        let problems = layers.take_user(
            [
                ("gone".to_owned(), Value::Null),
                ("theme".to_owned(), "plaid".into()),
                ("defaultCpus".to_owned(), 4.into()),
            ]
            .into(),
        );
        assert_eq!(problems.len(), 2);
        assert_eq!(layers.settings().default_cpus, 4);
    }
}
