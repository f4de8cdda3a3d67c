//! Brings the streams of several guests' memory to their ends at the same time, while the guests run.
//!
//! ```text
//! on its way ─▶ at the line: nearly all is written; braked until all others are there ─▶ released, all together ─▶ the first
//!               guest is held for its rest ─▶ whoever called holds the others
//! ```
//! A guest whose stream has come to its end waits, held; without the line it would do so until the slowest of them is there.
//!
//! QEMU asks again and again which pages were written to, and while it asks a translated guest that runs, it can miss one for good
//! (the translator remembers a page as told of just after QEMU has forgotten it). The line is in the first pass, before it asks
//! for the first time; translated guests are held there, and the rest is longer.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::Instant;
use voidvm_model::ErrorBody;
use voidvm_model::operation::Progress;
use voidvm_model::vm::ActiveAccel;

use super::super::stream::{Going, Pace, Stream};

/// How much may be left at the line, in bytes: at first, and when not all have got there after so long.
const LINE: [(Duration, u64); 3] =
    [(Duration::ZERO, 64 << 20), (Duration::from_secs(20), 512 << 20), (Duration::from_secs(60), u64::MAX)];
/// From so far before the line on it is looked at often.
const NEAR: u64 = 1 << 30;
const ASK: Duration = Duration::from_millis(50);
const ASK_OFTEN: Duration = Duration::from_millis(3);
/// A disk that takes nothing for so long has failed.
const STALLED: Duration = Duration::from_secs(60);
/// How long nobody may be held after all were released: guests that change their memory fast are held all the same then.
const RELEASED: Duration = Duration::from_millis(1500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    OnItsWay,
    AtTheLine,
    Held,
}

/// Where a stream is: pure, so that it can be tested. A guest that does not run loses nothing by being at its end first.
const fn place(was: Place, running: bool, held: bool, known: bool, left: u64, line: u64) -> Place {
    match was {
        _ if held => Place::Held,
        Place::OnItsWay if running && known && left <= line => Place::AtTheLine,
        was => was,
    }
}

/// Waits until one of the guests is held and all others are as good as there, or until all are at the line; of guests that do not
/// run, until all is written.
///
/// # Errors
/// When one of them fails.
pub(super) async fn gather(
    streams: &[&Stream],
    progress: &watch::Sender<Option<Progress>>,
) -> Result<(), ErrorBody> {
    if streams.is_empty() {
        return Ok(());
    }
    to_the_line(streams, progress).await?;
    let running: Vec<&Stream> = streams.iter().copied().filter(|stream| stream.running).collect();
    if running.iter().any(|stream| stream.run.record().accel == ActiveAccel::Tcg) {
        return Ok(());
    }
    for released in join_all(running.iter().map(|stream| stream.pace(Pace::Free))).await {
        released?;
    }
    let end = Instant::now() + RELEASED;
    while Instant::now() < end && !running.is_empty() {
        for going in join_all(running.iter().map(|stream| stream.going())).await {
            if going?.is_held() {
                return Ok(());
            }
        }
        tokio::time::sleep(ASK_OFTEN).await;
    }
    Ok(())
}

async fn to_the_line(
    streams: &[&Stream],
    progress: &watch::Sender<Option<Progress>>,
) -> Result<(), ErrorBody> {
    let began = Instant::now();
    let mut places = vec![Place::OnItsWay; streams.len()];
    let mut last = (0, began);
    loop {
        let line =
            LINE.iter().rev().find(|(after, _)| began.elapsed() >= *after).map_or(0, |(_, line)| *line);
        let answers = join_all(streams.iter().map(|stream| stream.going())).await;
        let now = answers.into_iter().collect::<Result<Vec<Going>, _>>()?;
        let mut near = false;
        for ((stream, place_now), going) in streams.iter().zip(&mut places).zip(&now) {
            let was = *place_now;
            *place_now = place(was, stream.running, going.is_held(), going.is_known(), going.left(), line);
            if was == Place::OnItsWay && *place_now == Place::AtTheLine {
                stream.pace(Pace::Braked).await?;
            }
            near |= *place_now == Place::OnItsWay && going.left() < line.saturating_add(NEAR);
        }
        let done: u64 = now.iter().map(|going| going.progress.done).sum();
        progress
            .send_replace(Some(Progress { done, total: now.iter().map(|going| going.progress.total).sum() }));
        if !places.contains(&Place::OnItsWay) {
            return Ok(());
        }
        if done != last.0 {
            last = (done, Instant::now());
        } else if last.1.elapsed() > STALLED {
            return Err(super::super::stream::stalled());
        }
        tokio::time::sleep(if near { ASK_OFTEN } else { ASK }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_runs_waits_at_the_line_and_one_that_does_not_goes_to_its_end() {
        let far = |running| place(Place::OnItsWay, running, false, true, 2 << 20, 1 << 20);
        assert_eq!((far(true), far(false)), (Place::OnItsWay, Place::OnItsWay));
        let there = |running| place(Place::OnItsWay, running, false, true, 1 << 20, 1 << 20);
        assert_eq!((there(true), there(false)), (Place::AtTheLine, Place::OnItsWay));
        assert_eq!(place(Place::OnItsWay, true, false, false, 0, 1), Place::OnItsWay, "nothing is known yet");
        assert_eq!(place(Place::AtTheLine, true, false, true, 9 << 20, 1 << 20), Place::AtTheLine);
        for was in [Place::OnItsWay, Place::AtTheLine, Place::Held] {
            assert_eq!(place(was, true, true, true, 0, 1), Place::Held);
        }
    }
}
