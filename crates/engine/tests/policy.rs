//! The policy against a model written apart from it: a machine that only knows the table of what is possible, and a queue that is
//! simply carried out.

use proptest::prelude::*;
use voidvm_engine::supervisor::policy::{Action, QUEUE_MAX, Refusal, Turn, Verdict, admit, turn};
use voidvm_model::VmState;

/// What a person would say happens: the state after an action, or why not.
#[expect(clippy::match_same_arms, reason = "one line per action")]
fn carry_out(state: VmState, action: Action) -> Result<Option<VmState>, ()> {
    use Action as A;
    use VmState as S;
    Ok(match (action, state) {
        (A::Start, S::Stopped | S::Crashed | S::Broken | S::Suspended) => Some(S::Running),
        (A::Stop, S::Running | S::Paused) => Some(S::Stopped),
        (A::ForceOff, S::Running | S::Paused | S::Starting | S::Stopping | S::Unresponsive) => {
            Some(S::Stopped)
        }
        // What is saved is thrown away.
        (A::ForceOff, S::Suspended) => Some(S::Stopped),
        (A::Suspend, S::Running | S::Paused) => Some(S::Suspended),
        (A::Pause, S::Running) => Some(S::Paused),
        (A::Resume, S::Paused) => Some(S::Running),
        (A::Reset, S::Running | S::Paused) => Some(state),
        (A::Delete, S::Stopped | S::Crashed | S::Broken | S::Suspended) => None,
        _ => return Err(()),
    })
}

/// The state after a whole queue, if it can be carried out; the first may be under way already.
fn carry_out_all(mut state: VmState, queue: &[Action]) -> Result<Option<VmState>, ()> {
    for (at, action) in queue.iter().enumerate() {
        let under_way = at == 0
            && matches!(
                (state, action),
                (VmState::Starting, Action::Start)
                    | (VmState::Stopping, Action::Stop)
                    // It may have taken the place of a start that had not begun: then there is nothing to end.
                    | (_, Action::ForceOff)
            )
            && (queue.len() > 1 || state.is_live() || state == VmState::Suspended);
        let next = if under_way {
            Ok(Some(if *action == Action::Start { VmState::Running } else { VmState::Stopped }))
        } else {
            carry_out(state, *action)
        };
        match next? {
            Some(next) => state = next,
            None => return if at + 1 == queue.len() { Ok(None) } else { Err(()) },
        }
    }
    Ok(Some(state))
}

fn any_state() -> impl Strategy<Value = VmState> {
    proptest::sample::select(VmState::ALL.to_vec())
}

fn any_action() -> impl Strategy<Value = Action> {
    proptest::sample::select(Action::ALL.to_vec())
}

/// States a machine can be in when nothing is at work on it.
fn resting() -> impl Strategy<Value = VmState> {
    proptest::sample::select(vec![
        VmState::Stopped,
        VmState::Running,
        VmState::Paused,
        VmState::Crashed,
        VmState::Broken,
        VmState::Unresponsive,
        VmState::Suspended,
    ])
}

/// Keeps a queue as a driver would.
fn submit(state: VmState, queue: &mut Vec<Action>, request: Action) -> Verdict {
    let verdict = admit(state, queue, request);
    match verdict {
        Verdict::Queue => queue.push(request),
        Verdict::Preempt => *queue = vec![request],
        Verdict::Join | Verdict::Refuse(_) => {}
    }
    verdict
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    /// What is admitted can run if all before it succeed; what is refused for its state could not.
    #[test]
    fn admitted_is_possible_and_refused_is_not(
        state in resting(),
        requests in proptest::collection::vec(any_action(), 1..24),
    ) {
        let mut queue = Vec::new();
        for request in requests {
            let before = queue.clone();
            let verdict = submit(state, &mut queue, request);
            let with_it: Vec<_> = before.iter().copied().chain([request]).collect();
            let possible = carry_out_all(state, &with_it).is_ok();
            match verdict {
                Verdict::Queue => prop_assert!(possible, "{state:?} {with_it:?}"),
                Verdict::Join => {
                    prop_assert_eq!(before.last(), Some(&request));
                }
                Verdict::Preempt => {
                    prop_assert_eq!(request, Action::ForceOff);
                    prop_assert!(!before.is_empty());
                }
                Verdict::Refuse(Refusal::Full) => prop_assert!(before.len() >= QUEUE_MAX),
                Verdict::Refuse(_) => prop_assert!(!possible, "{state:?} {with_it:?} was refused: {verdict:?}"),
            }
            prop_assert!(queue.len() <= QUEUE_MAX);
        }
    }

    /// Forcing off is never refused while there is, or would be, a process; and it waits for nobody.
    #[test]
    fn forcing_off_is_always_possible(
        state in resting(),
        requests in proptest::collection::vec(any_action(), 0..12),
    ) {
        let mut queue = Vec::new();
        for request in requests {
            submit(state, &mut queue, request);
        }
        let after = carry_out_all(state, &queue);
        let is_something = |state: VmState| state.is_live() || state == VmState::Suspended;
        let would_be = matches!(after, Ok(Some(state)) if is_something(state));
        let deleting = queue.contains(&Action::Delete);
        if (is_something(state) || would_be) && !deleting {
            let verdict = admit(state, &queue, Action::ForceOff);
            prop_assert!(!matches!(verdict, Verdict::Refuse(_)), "{state:?} {queue:?}: {verdict:?}");
            if queue.first().is_some_and(|first| *first != Action::ForceOff) && verdict != Verdict::Join {
                prop_assert_eq!(verdict, Verdict::Preempt);
            }
        }
    }

    /// After a deletion nothing but the same deletion is admitted.
    #[test]
    fn nothing_follows_a_deletion(state in any_state(), request in any_action()) {
        let verdict = admit(state, &[Action::Delete], request);
        let expected = matches!(
            (request, verdict),
            (_, Verdict::Refuse(Refusal::Adopting | Refusal::Behind(Action::Delete)))
                | (Action::Delete, Verdict::Join)
        );
        prop_assert!(expected, "{state:?} {request:?}: {verdict:?}");
    }

    /// When its turn comes, an action begins only if it can be carried out, whatever the guest did meanwhile.
    #[test]
    fn a_turn_is_judged_by_what_is(state in any_state(), action in any_action()) {
        match turn(state, action) {
            Turn::Begin => prop_assert!(carry_out(state, action).is_ok()),
            Turn::Moot => {
                prop_assert!(carry_out(state, action).is_err());
                prop_assert!(!matches!(action, Action::Start | Action::Reset | Action::Delete));
                if action == Action::Suspend {
                    prop_assert_eq!(state, VmState::Suspended);
                }
            }
            Turn::Refuse(seen) => {
                prop_assert_eq!(seen, state);
                prop_assert!(carry_out(state, action).is_err());
            }
        }
    }
}

#[test]
fn what_people_do_in_a_row() {
    use Action as A;
    // A restart: stop, then start, while the guest still shuts down.
    assert_eq!(admit(VmState::Stopping, &[A::Stop], A::Start), Verdict::Queue);
    // A second click is the first one.
    assert_eq!(admit(VmState::Starting, &[A::Start], A::Start), Verdict::Join);
    // Pausing what is about to be off makes no sense.
    assert_eq!(admit(VmState::Stopping, &[A::Stop], A::Pause), Verdict::Refuse(Refusal::Behind(A::Stop)));
    // Impatience.
    assert_eq!(admit(VmState::Stopping, &[A::Stop], A::ForceOff), Verdict::Preempt);
    assert_eq!(admit(VmState::Unresponsive, &[], A::ForceOff), Verdict::Queue);
    assert_eq!(
        admit(VmState::Unresponsive, &[], A::Stop),
        Verdict::Refuse(Refusal::State(VmState::Unresponsive))
    );
    assert_eq!(admit(VmState::Adopting, &[], A::ForceOff), Verdict::Refuse(Refusal::Adopting));
    assert_eq!(admit(VmState::Running, &[], A::Delete), Verdict::Refuse(Refusal::State(VmState::Running)));
    assert_eq!(turn(VmState::Stopped, A::Stop), Turn::Moot);
    // Suspended and on again; nothing in between but that, or throwing it away.
    assert_eq!(admit(VmState::Running, &[A::Suspend], A::Start), Verdict::Queue);
    assert_eq!(
        admit(VmState::Suspended, &[], A::Resume),
        Verdict::Refuse(Refusal::State(VmState::Suspended))
    );
    assert_eq!(admit(VmState::Suspended, &[], A::Stop), Verdict::Refuse(Refusal::State(VmState::Suspended)));
    assert_eq!(admit(VmState::Suspended, &[], A::ForceOff), Verdict::Queue);
    assert_eq!(admit(VmState::Running, &[A::Suspend], A::ForceOff), Verdict::Preempt);
    assert_eq!(turn(VmState::Suspended, A::Suspend), Turn::Moot);
}
