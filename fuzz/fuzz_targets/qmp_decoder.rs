//! The monitor's decoder: any bytes in any pieces give the same messages, and no panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use voidvm_qemu::qmp::QmpEvent;
use voidvm_qemu::qmp::wire::{Lines, Message};

fn messages(pieces: &[&[u8]]) -> Vec<Message> {
    let (mut lines, mut messages) = (Lines::default(), Vec::new());
    for piece in pieces {
        lines.push(piece);
        while let Some(line) = lines.next_line().expect("inputs are far shorter than a line may be") {
            messages.push(Message::decode(line));
        }
    }
    assert!(lines.held() <= pieces.iter().map(|piece| piece.len()).sum());
    messages
}

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    let whole = messages(&[bytes]);
    let pieces: Vec<&[u8]> = bytes.chunks(usize::from(cut).max(1)).collect();
    assert_eq!(whole, messages(&pieces));
    for message in whole {
        if let Message::Event { name, data, at } = message {
            let event = QmpEvent::new(name.clone(), data, at);
            assert_eq!(event.name, name);
        }
    }
});
