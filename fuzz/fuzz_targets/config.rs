//! The configuration file: any text gives settings that hold, and names what it left out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use voidvm_host::config::{Layers, parse_file};

fuzz_target!(|text: &str| {
    let mut problems = Vec::new();
    let layers = Layers { file: parse_file(text, &mut problems), ..Layers::default() };
    assert_eq!(layers.settings().problems(), [], "what is in force holds");
    for (key, value) in &layers.file {
        let settings = serde_json::to_value(layers.settings()).expect("settings can be written");
        assert_eq!(settings.get(key), Some(value), "a value that was taken is in force");
    }
    assert!(problems.iter().all(|problem| !problem.message.is_empty()));
});
