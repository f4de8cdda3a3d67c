//! What a person does on a machine's console: keys, pointer, wheel, and what a viewer says to its console session.
//!
//! Keys are physical keys, by the names of QEMU's `QKeyCode` (qapi/ui.json); the guest's own keyboard layout decides what they
//! mean. The pointer is absolute. The names are checked for their form here and for their existence where QEMU is spoken to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// A physical key by its QEMU name: `a`, `ctrl`, `kp_enter`. Lower case letters, digits and `_`, at most 24 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(try_from = "String", into = "String")]
#[ts(type = "string")]
pub struct KeyCode(String);

/// Why a text is not a [`KeyCode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of a key")]
pub struct KeyCodeError(String);

impl KeyCode {
    /// The name as QEMU gets it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for KeyCode {
    type Error = KeyCodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let fits = (1..=24).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if fits { Ok(Self(text)) } else { Err(KeyCodeError(text)) }
    }
}

impl std::str::FromStr for KeyCode {
    type Err = KeyCodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.to_owned().try_into()
    }
}

impl From<KeyCode> for String {
    fn from(code: KeyCode) -> Self {
        code.0
    }
}

impl std::fmt::Display for KeyCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A button of the pointer. The wire form is QEMU's `InputButton`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, TS,
)]
#[serde(rename_all = "snake_case")]
pub enum PointerButton {
    /// The main one.
    Left,
    /// Also the wheel, pressed.
    Middle,
    /// The context menu's.
    Right,
    /// Back.
    Side,
    /// Forward.
    Extra,
}

/// Which way the wheel turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum WheelDirection {
    /// Away from the person.
    Up,
    /// Towards the person.
    Down,
    /// To the left.
    Left,
    /// To the right.
    Right,
}

/// One thing a person did on a console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum InputEvent {
    /// A key went down or up. The guest repeats held keys itself: a repetition is never sent.
    Key {
        /// Which one.
        code: KeyCode,
        /// Whether it is down now.
        down: bool,
    },
    /// The pointer is here now.
    Pointer {
        /// 0 is the left edge of the screen, 32767 the right one.
        #[schemars(range(max = 32767))]
        x: u16,
        /// 0 is the upper edge of the screen, 32767 the lower one.
        #[schemars(range(max = 32767))]
        y: u16,
    },
    /// A button went down or up.
    Button {
        /// Which one.
        button: PointerButton,
        /// Whether it is down now.
        down: bool,
    },
    /// The wheel turned by one notch.
    Wheel {
        /// Which way.
        direction: WheelDirection,
    },
}

impl InputEvent {
    /// The largest coordinate of the pointer.
    pub const POINTER_MAX: u16 = 32_767;
}

/// What a viewer says to its console session, as one JSON text per message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ViewerMessage {
    /// One picture message has been drawn; the next may come.
    Drawn,
    /// What a person did, in order; at most 256 events.
    Input {
        /// The events.
        events: Vec<InputEvent>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_codes_are_names_and_nothing_else() {
        for name in ["a", "kp_enter", "f12", "less", "102nd"] {
            assert!(name.parse::<KeyCode>().is_ok(), "{name}");
        }
        for name in ["", "A", "ctrl-alt", "a b", "\u{e4}", &"a".repeat(25)] {
            assert!(name.parse::<KeyCode>().is_err(), "{name}");
        }
    }

    #[test]
    fn viewer_messages_are_what_the_canvas_sends() {
        let text = r#"{"type":"input","events":[{"type":"key","code":"ctrl","down":true},
            {"type":"pointer","x":0,"y":32767},{"type":"button","button":"left","down":false},{"type":"wheel","direction":"up"}]}"#;
        let ViewerMessage::Input { events } = serde_json::from_str(text).unwrap() else { panic!("input") };
        assert_eq!(events.len(), 4);
        assert_eq!(events[1], InputEvent::Pointer { x: 0, y: InputEvent::POINTER_MAX });
        assert_eq!(
            serde_json::from_str::<ViewerMessage>(r#"{"type":"drawn"}"#).unwrap(),
            ViewerMessage::Drawn
        );
        for wrong in [r#"{"type":"input"}"#, r#"{"type":"key","code":"A","down":true}"#, "[]"] {
            assert!(serde_json::from_str::<ViewerMessage>(wrong).is_err(), "{wrong}");
        }
    }
}
