//! What a viewer holds down, so that it can be let go when the viewer is gone: a guest must not be left with Ctrl pressed.

use std::collections::BTreeSet;

use voidvm_model::input::{InputEvent, KeyCode, PointerButton};

/// Keys and buttons that are down.
#[derive(Debug, Default)]
pub(crate) struct Held {
    keys: BTreeSet<KeyCode>,
    buttons: BTreeSet<PointerButton>,
}

impl Held {
    /// The most keys that can be down at a time; no keyboard has more fingers on it.
    const MOST_KEYS: usize = 32;

    /// Takes note of an event. False when it changes nothing (a repetition, a release of what is not down) or holds too much:
    /// such an event is not passed on.
    pub(crate) fn note(&mut self, event: &InputEvent) -> bool {
        match event {
            InputEvent::Key { code, down: true } => {
                self.keys.len() < Self::MOST_KEYS && self.keys.insert(code.clone())
            }
            InputEvent::Key { code, down: false } => self.keys.remove(code),
            InputEvent::Button { button, down: true } => self.buttons.insert(*button),
            InputEvent::Button { button, down: false } => self.buttons.remove(button),
            InputEvent::Pointer { .. } | InputEvent::Wheel { .. } => true,
        }
    }

    /// The events that let everything go.
    pub(crate) fn release(&mut self) -> Vec<InputEvent> {
        let keys =
            std::mem::take(&mut self.keys).into_iter().map(|code| InputEvent::Key { code, down: false });
        let buttons = std::mem::take(&mut self.buttons)
            .into_iter()
            .map(|button| InputEvent::Button { button, down: false });
        keys.chain(buttons).collect()
    }
}
