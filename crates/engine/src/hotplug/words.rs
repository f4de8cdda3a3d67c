//! A run's arguments kept in step with what is plugged in and out: started with them, QEMU would make the machine as it is now.
//! That is what a suspended machine is resumed with. Pure.

use serde_json::Value;

/// Arguments, option and value in turn where an option has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words(Vec<String>);

impl Words {
    pub(crate) const fn new(argv: Vec<String>) -> Self {
        Self(argv)
    }

    pub(crate) fn into_argv(self) -> Vec<String> {
        self.0
    }

    /// Adds an option with a JSON value.
    pub(crate) fn add(&mut self, option: &str, value: &Value) {
        self.0.extend([option.to_owned(), value.to_string()]);
    }

    /// Takes out the device, its drive, network and objects of this name.
    pub(crate) fn remove(&mut self, id: &str) {
        for (option, key) in
            [("-device", "id"), ("-blockdev", "node-name"), ("-netdev", "id"), ("-object", "id")]
        {
            while let Some(at) = self.find(option, key, id) {
                self.0.drain(at..at + 2);
            }
        }
    }

    /// Takes out the drive of this node name alone.
    pub(crate) fn remove_node(&mut self, node: &str) {
        if let Some(at) = self.find("-blockdev", "node-name", node) {
            self.0.drain(at..at + 2);
        }
    }

    /// Sets a property of the option that has this id, or takes it away with `Null`.
    pub(crate) fn set(&mut self, option: &str, id: &str, key: &str, value: &Value) {
        let Some(at) = self.find(option, "id", id) else { return };
        let Ok(Value::Object(mut whole)) = serde_json::from_str(&self.0[at + 1]) else { return };
        if value.is_null() {
            whole.remove(key);
        } else {
            whole.insert(key.to_owned(), value.clone());
        }
        self.0[at + 1] = Value::Object(whole).to_string();
    }

    /// Puts another JSON value in the place of an option's that has this id, or of a drive's that has this node name.
    pub(crate) fn replace(&mut self, option: &str, name: &str, value: &Value) {
        let key = if option == "-blockdev" { "node-name" } else { "id" };
        if let Some(at) = self.find(option, key, name) {
            self.0[at + 1] = value.to_string();
        }
    }

    /// The JSON value of the option that has this id, or of the drive that has this node name.
    pub(crate) fn value(&self, option: &str, name: &str) -> Option<Value> {
        let key = if option == "-blockdev" { "node-name" } else { "id" };
        json(&self.0[self.find(option, key, name)? + 1])
    }

    /// Changes every JSON value of an option; gives up at the first that has nothing in its place.
    pub(crate) fn change(
        &mut self,
        option: &str,
        mut other: impl FnMut(&Value) -> Option<Value>,
    ) -> Option<()> {
        for at in 1..self.0.len() {
            if self.0[at - 1] == option
                && let Some(value) = json(&self.0[at])
            {
                self.0[at] = other(&value)?.to_string();
            }
        }
        Some(())
    }

    /// Puts another text in the place of one, wherever it is.
    pub(crate) fn rewrite(&mut self, from: &str, to: &str) {
        for word in &mut self.0 {
            *word = word.replace(from, to);
        }
    }

    /// Sets the value of an option that is there once and is no JSON.
    pub(crate) fn set_plain(&mut self, option: &str, value: String) {
        let at = self.pairs().position(|(this, _)| this == option);
        if let Some(at) = at {
            self.0[at + 1] = value;
        }
    }

    /// The number of the descriptor that a network is reached through, where it is.
    pub(crate) fn descriptor(&self, network: &str) -> Option<u32> {
        let at = self.find("-netdev", "id", network)?;
        json(&self.0[at + 1])?.get("addr")?.get("str")?.as_str()?.parse().ok()
    }

    /// The ids of all devices.
    pub(crate) fn devices(&self) -> Vec<String> {
        self.pairs()
            .filter(|(option, _)| *option == "-device")
            .filter_map(|(_, value)| Some(json(value)?.get("id")?.as_str()?.to_owned()))
            .collect()
    }

    /// Every value of a property that is a number, of whatever device.
    pub(crate) fn numbers(&self, key: &str) -> Vec<usize> {
        let devices = self.pairs().filter(|(option, _)| *option == "-device");
        devices.filter_map(|(_, value)| usize::try_from(json(value)?.get(key)?.as_u64()?).ok()).collect()
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.windows(2).map(|pair| (pair[0].as_str(), pair[1].as_str()))
    }

    fn find(&self, option: &str, key: &str, name: &str) -> Option<usize> {
        self.pairs().position(|(this, value)| {
            this == option
                && json(value).is_some_and(|whole| whole.get(key).and_then(Value::as_str) == Some(name))
        })
    }
}

fn json(value: &str) -> Option<Value> {
    value.starts_with('{').then(|| serde_json::from_str(value).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_goes_in_comes_out_and_nothing_else() {
        let first =
            ["-S", "-name", "guest=-device", "-device", "{\"id\":\"nic0\",\"driver\":\"virtio-net-pci\"}"];
        let mut words = Words::new(first.map(str::to_owned).to_vec());
        words.add("-blockdev", &json!({"node-name": "disk1", "driver": "qcow2"}));
        words.add("-device", &json!({"driver": "virtio-blk-pci", "id": "disk1", "drive": "disk1"}));
        assert_eq!(words.devices(), ["nic0", "disk1"]);
        words.set("-device", "nic0", "mac", &json!("52:54:00:00:00:01"));
        assert!(words.0[4].contains("52:54"));
        words.set("-device", "nic0", "mac", &Value::Null);
        words.remove("disk1");
        assert_eq!(words.0.len(), first.len());
        assert_eq!(json(&words.0[4]), json(first[4]));
    }
}
