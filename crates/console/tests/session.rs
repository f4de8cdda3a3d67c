//! One viewer's connection against a display that says exactly what the test wants.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use support::{Canvas, Display, Viewer, copy, cursor, flat, resize, within};
use tokio::io::AsyncWriteExt as _;
use voidvm_console::{ConsoleError, Session};
use voidvm_model::ErrorCode;
use voidvm_model::input::{InputEvent, PointerButton, ViewerMessage, WheelDirection};

async fn opened(width: u16, height: u16) -> (Viewer, Display) {
    let (mut viewer, stream) = Viewer::open();
    let mut display = within(Display::greet(stream, width, height)).await;
    assert!(!within(display.request()).await, "the first request is for everything");
    assert_eq!(viewer.next().await, [1, u32::from(width) | u32::from(height) << 16]);
    (viewer, display)
}

#[tokio::test]
async fn pictures_copies_and_sizes_arrive_as_they_were_sent() {
    let (mut viewer, mut display) = opened(8, 4).await;
    let mut canvas = Canvas { width: 8, height: 4, pixels: vec![0; 32] };
    display.update(&[flat(0, 0, 8, 4, 0x0011_2233), flat(2, 1, 2, 2, 0x00ff_0000)]).await;
    while canvas.pixels[8 + 3] != 0xff00_00ff {
        canvas.draw(&viewer.next().await);
        viewer.say(&ViewerMessage::Drawn).await;
    }
    assert_eq!(canvas.pixels[0], 0xff33_2211);
    assert!(within(display.request()).await);

    display.update(&[copy((5, 2), (2, 1), 2, 2)]).await;
    canvas.draw(&viewer.next().await);
    assert_eq!(canvas.pixels[3 * 8 + 6], 0xff00_00ff);
    viewer.say(&ViewerMessage::Drawn).await;

    display.update(&[resize(4, 4), flat(0, 0, 4, 4, 0x0000_00ff)]).await;
    let words = viewer.next().await;
    assert_eq!(words, [1, 4 | 4 << 16]);
    canvas.draw(&words);
    canvas.draw(&viewer.next().await);
    assert_eq!(canvas.pixels, [0xffff_0000; 16]);
}

#[tokio::test]
async fn the_pointer_is_a_message_of_its_own() {
    let (mut viewer, mut display) = opened(8, 4).await;
    display.update(&[cursor((1, 2), 3, 2, 0x0000_ff10)]).await;
    let words = viewer.next().await;
    assert_eq!(words[..3], [3, 1 | 2 << 16, 3 | 2 << 16]);
    assert_eq!(words[3], 0xff10_ff00);
    assert_eq!(words[4], 0x0010_ff00, "masked out");
    display.update(&[cursor((0, 0), 0, 0, 0)]).await;
    assert_eq!(viewer.next().await, [3, 0, 0]);
}

/// A viewer that draws nothing is sent two pictures; what happens meanwhile is merged, and the newest state is what it gets.
#[tokio::test]
async fn the_newest_state_wins() {
    let (mut viewer, mut display) = opened(64, 64).await;
    display.update(&[flat(0, 0, 64, 64, 0)]).await;
    viewer.next().await;
    assert!(within(display.request()).await);
    display.update(&[flat(0, 0, 64, 64, 1)]).await;
    viewer.next().await;
    // No more is asked for; a display that goes on by itself (updates of many rectangles) changes the picture, and nothing is sent.
    for colour in 2..200_u32 {
        display
            .update(&[
                flat(u16::try_from(colour % 8).unwrap() * 8, 0, 8, 8, colour),
                flat(0, 32, 64, 32, colour),
            ])
            .await;
    }
    // The bell follows the updates on the same connection, so a request after it would be seen; there is none.
    display.stream.write_all(&[2]).await.unwrap();
    assert!(viewer.line.to_viewer.try_recv().is_err());

    viewer.say(&ViewerMessage::Drawn).await;
    let mut canvas = Canvas { width: 64, height: 64, pixels: vec![0; 64 * 64] };
    let mut pictures = 0;
    while canvas.pixels[40 * 64] != 0xffc7_0000 {
        canvas.draw(&viewer.next().await);
        viewer.say(&ViewerMessage::Drawn).await;
        pictures += 1;
    }
    assert!(pictures <= 5, "{pictures} pictures for 198 updates");
    assert!(within(display.request()).await);
}

#[tokio::test]
async fn input_comes_in_order_and_held_keys_are_let_go() {
    let (mut viewer, _display) = opened(8, 4).await;
    let key = |name: &str, down| InputEvent::Key { code: name.parse().unwrap(), down };
    let left = |down| InputEvent::Button { button: PointerButton::Left, down };
    let events = vec![
        key("ctrl", true),
        key("ctrl", true),
        key("a", true),
        key("a", false),
        key("b", false),
        InputEvent::Pointer { x: 1, y: 1 },
        InputEvent::Pointer { x: 2, y: 2 },
        left(true),
        InputEvent::Wheel { direction: WheelDirection::Up },
    ];
    viewer.say(&ViewerMessage::Input { events }).await;
    let seen = within(viewer.input.recv()).await.unwrap();
    let wanted = [
        key("ctrl", true),
        key("a", true),
        key("a", false),
        InputEvent::Pointer { x: 2, y: 2 },
        left(true),
        InputEvent::Wheel { direction: WheelDirection::Up },
    ];
    assert_eq!(seen, wanted);
    let Viewer { line, mut input } = viewer;
    drop((line.to_viewer, line.from_viewer));
    assert_eq!(within(input.recv()).await.unwrap(), [key("ctrl", false), left(false)]);
    assert!(within(line.ended).await.unwrap().is_ok());
}

#[tokio::test]
async fn keys_pass_while_the_viewer_reads_nothing() {
    let (mut viewer, mut display) = opened(256, 256).await;
    display.update(&[flat(0, 0, 256, 256, 7)]).await;
    for _ in 0..100 {
        viewer
            .say(&ViewerMessage::Input {
                events: vec![InputEvent::Wheel { direction: WheelDirection::Down }],
            })
            .await;
    }
    let mut seen = 0;
    while seen < 100 {
        seen += within(viewer.input.recv()).await.unwrap().len();
    }
}

#[tokio::test]
async fn the_end_of_the_display_is_told() {
    let (mut viewer, display) = opened(8, 4).await;
    drop(display);
    let error = viewer.ended().await;
    assert_eq!(error.code, ErrorCode::ConsoleUnavailable);
    assert!(error.message.contains("closed"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_shown_ends_the_session_and_nothing_else() {
    let outside = flat(6, 0, 4, 1, 0);
    let unknown = vec![0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 99];
    let hextile = vec![0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 5];
    for rect in [
        outside,
        copy((0, 0), (7, 3), 4, 4),
        unknown,
        hextile,
        resize(0, 4),
        resize(65_535, 65_535),
        resize(4096, 2304),
    ] {
        let (mut viewer, mut display) = opened(8, 4).await;
        display.update(std::slice::from_ref(&rect)).await;
        let error = viewer.ended().await;
        assert!(error.message.contains("cannot be shown"), "{rect:?}: {error}");
    }
    for message in [&[1_u8, 0][..], &[250], &[3, 0, 0, 0, 255, 255, 255, 255]] {
        let (mut viewer, mut display) = opened(8, 4).await;
        display.stream.write_all(message).await.unwrap();
        let error = viewer.ended().await;
        assert!(error.message.contains("cannot be shown"), "{message:?}: {error}");
    }
}

#[tokio::test]
async fn a_screen_too_large_is_refused_at_the_greeting() {
    let (mut viewer, stream) = Viewer::open();
    let _display = within(Display::greet(stream, 7680, 4320)).await;
    let error = viewer.ended().await;
    assert!(error.hint.as_ref().unwrap().contains("3840"), "{error}");
}

#[tokio::test]
async fn no_display_or_a_wrong_one_is_told() {
    let (mut viewer, mut stream) = Viewer::open();
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n garbage that is no display at all").await.unwrap();
    viewer.ended().await;
    let (mut viewer, stream) = Viewer::open();
    drop(stream);
    assert_eq!(viewer.ended().await.code, ErrorCode::ConsoleUnavailable);
    let (ours, _silent) = tokio::net::UnixStream::pair().unwrap();
    let opened = Session::open_within(ours, std::time::Duration::from_millis(20)).await;
    assert!(matches!(opened.unwrap_err(), ConsoleError::Mute));
}

#[tokio::test]
async fn a_viewer_that_talks_nonsense_is_shown_out() {
    let many = format!(
        r#"{{"type":"input","events":[{}]}}"#,
        vec![r#"{"type":"wheel","direction":"up"}"#; 257].join(",")
    );
    for message in ["", "{}", "[1]", r#"{"type":"drawn"}"#, many.as_str()] {
        let (mut viewer, _display) = opened(8, 4).await;
        viewer.say_text(message).await;
        let error = viewer.ended().await;
        assert_eq!(error.code, ErrorCode::InvalidInput, "{message}: {error}");
    }
}
