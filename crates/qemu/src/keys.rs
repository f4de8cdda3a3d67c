//! Keys as QEMU names them (`QKeyCode`), and a text as the strokes of a US keyboard.
//!
//! Keys are physical: which character they make is the guest's business, except when a text is typed, for which a US layout is
//! assumed.

use std::str::FromStr;

use qapi::qmp::{InputEvent, InputKeyEvent, InputMoveEvent, KeyValue, QKeyCode, input_send_event};
use voidvm_model::{ErrorBody, ErrorCode};

/// The most keys that are pressed together.
pub const COMBINATION_MAX: usize = 8;
/// The most characters that are typed at once.
pub const TEXT_MAX: usize = 10_000;

/// A key name QEMU does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a key")]
pub struct UnknownKey(pub String);

/// A character a US keyboard does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{character:?} (character {position}) is not on a US keyboard")]
pub struct UnknownChar {
    /// The character.
    pub character: char,
    /// Which character of the text it is, from 1.
    pub position: usize,
}

impl UnknownKey {
    /// The error as everybody is shown it.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        ErrorBody::invalid("keys", self.to_string())
            .with_hint("Use QEMU's key names: ctrl, alt, delete, f1, a …")
    }
}

impl UnknownChar {
    /// The error as everybody is shown it.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        ErrorBody::new(ErrorCode::InvalidInput, self.to_string())
            .with_field("text")
            .with_hint("Paste it inside the guest, or leave the character out.")
            .with_detail("character", self.character.to_string())
    }
}

/// The key of a name.
///
/// # Errors
/// [`UnknownKey`].
pub fn parse(name: &str) -> Result<QKeyCode, UnknownKey> {
    match QKeyCode::from_str(name) {
        Ok(key) if key != QKeyCode::unmapped => Ok(key),
        _ => Err(UnknownKey(name.to_owned())),
    }
}

/// A text as strokes, each the keys that are pressed together, the one that makes the character last. `\n` is Enter.
///
/// # Errors
/// [`UnknownChar`]: nothing would be typed then.
pub fn type_text(text: &str) -> Result<Vec<Vec<QKeyCode>>, UnknownChar> {
    let strokes = text.replace("\r\n", "\n");
    strokes
        .chars()
        .enumerate()
        .map(|(index, character)| {
            stroke(character).ok_or(UnknownChar { character, position: index + 1 }).map(|(shift, key)| {
                match shift {
                    Shift::Up => vec![key],
                    Shift::Down => vec![QKeyCode::shift, key],
                }
            })
        })
        .collect()
}

/// Presses keys together, in order, and lets them go in reverse.
#[must_use]
pub fn press(keys: &[QKeyCode]) -> input_send_event {
    let down = keys.iter().map(|key| key_event(*key, Edge::Down));
    let up = keys.iter().rev().map(|key| key_event(*key, Edge::Up));
    send(down.chain(up).collect())
}

/// One command that delivers these events in order.
#[must_use]
pub fn send(events: Vec<InputEvent>) -> input_send_event {
    input_send_event { device: None, head: None, events }
}

/// Which way a key or button goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// Pressed.
    Down,
    /// Let go.
    Up,
}

/// One edge of one key.
#[must_use]
pub fn key_event(key: QKeyCode, edge: Edge) -> InputEvent {
    InputKeyEvent { key: KeyValue::qcode(key.into()), down: edge == Edge::Down }.into()
}

/// A pointer position of one axis, 0 to 32,767 across the screen.
#[must_use]
pub fn pointer_axis(axis: qapi::qmp::InputAxis, value: u16) -> InputEvent {
    InputEvent::abs(InputMoveEvent { axis, value: i64::from(value.min(0x7fff)) }.into())
}

/// One edge of a button; the wheel is buttons too (`wheel_up`, `wheel_down`).
#[must_use]
pub fn button_event(button: qapi::qmp::InputButton, edge: Edge) -> InputEvent {
    InputEvent::btn(qapi::qmp::InputBtnEvent { button, down: edge == Edge::Down }.into())
}

#[derive(Clone, Copy)]
enum Shift {
    Up,
    Down,
}

fn stroke(character: char) -> Option<(Shift, QKeyCode)> {
    use QKeyCode as Q;
    use Shift::{Down, Up};
    if character.is_ascii_lowercase() || character.is_ascii_digit() {
        let mut name = [0; 4];
        return QKeyCode::from_str(character.encode_utf8(&mut name)).ok().map(|key| (Up, key));
    }
    if character.is_ascii_uppercase() {
        return stroke(character.to_ascii_lowercase()).map(|(_, key)| (Down, key));
    }
    Some(match character {
        '\n' | '\r' => (Up, Q::ret),
        '\t' => (Up, Q::tab),
        ' ' => (Up, Q::spc),
        '!' => (Down, Q::_1),
        '@' => (Down, Q::_2),
        '#' => (Down, Q::_3),
        '$' => (Down, Q::_4),
        '%' => (Down, Q::_5),
        '^' => (Down, Q::_6),
        '&' => (Down, Q::_7),
        '*' => (Down, Q::_8),
        '(' => (Down, Q::_9),
        ')' => (Down, Q::_0),
        '-' => (Up, Q::minus),
        '_' => (Down, Q::minus),
        '=' => (Up, Q::equal),
        '+' => (Down, Q::equal),
        '[' => (Up, Q::bracket_left),
        '{' => (Down, Q::bracket_left),
        ']' => (Up, Q::bracket_right),
        '}' => (Down, Q::bracket_right),
        '\\' => (Up, Q::backslash),
        '|' => (Down, Q::backslash),
        ';' => (Up, Q::semicolon),
        ':' => (Down, Q::semicolon),
        '\'' => (Up, Q::apostrophe),
        '"' => (Down, Q::apostrophe),
        '`' => (Up, Q::grave_accent),
        '~' => (Down, Q::grave_accent),
        ',' => (Up, Q::comma),
        '<' => (Down, Q::comma),
        '.' => (Up, Q::dot),
        '>' => (Down, Q::dot),
        '/' => (Up, Q::slash),
        '?' => (Down, Q::slash),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_ascii_character_can_be_typed_and_no_two_alike() {
        let printable: String = (' '..='~').chain(['\n', '\t']).collect();
        let strokes = type_text(&printable).unwrap();
        let mut seen = std::collections::HashSet::new();
        for (character, stroke) in printable.chars().zip(&strokes) {
            assert!(seen.insert(format!("{stroke:?}")), "{character:?} is typed like another");
        }
        assert_eq!(strokes.len(), 97);
        assert_eq!(
            type_text("aA\r\n").unwrap(),
            [vec![QKeyCode::a], vec![QKeyCode::shift, QKeyCode::a], vec![QKeyCode::ret]]
        );
    }

    #[test]
    fn characters_without_a_key_are_named() {
        assert_eq!(type_text("aé"), Err(UnknownChar { character: 'é', position: 2 }));
        assert!(type_text("\u{7f}").is_err());
        assert!(type_text("\0").is_err());
    }

    #[test]
    fn key_names_are_qemus() {
        assert_eq!(parse("ctrl"), Ok(QKeyCode::ctrl));
        assert_eq!(parse("delete"), Ok(QKeyCode::delete));
        for name in ["Ctrl", "", "unmapped", "a b", "ctrl\n"] {
            assert_eq!(parse(name), Err(UnknownKey(name.to_owned())));
        }
    }

    #[test]
    fn a_combination_is_let_go_in_reverse() {
        let command = serde_json::to_value(press(&[QKeyCode::ctrl, QKeyCode::delete])).unwrap();
        let edges: Vec<_> = command["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| {
                assert_eq!(event["type"], "key");
                (event["data"]["key"]["data"].as_str().unwrap(), event["data"]["down"].as_bool().unwrap())
            })
            .collect();
        assert_eq!(edges, [("ctrl", true), ("delete", true), ("delete", false), ("ctrl", false)]);
    }
}
