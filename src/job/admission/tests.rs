//! Tests of the module above.

use super::*;

fn admission(max_running: usize, max_queued: usize) -> Arc<Admission> {
    let bounds = |most| quota::Bounds { most, most_per_caller: None };
    let (running, queued) = (bounds(max_running), bounds(max_queued));
    Arc::new(Admission::new(AdmissionBounds { running, resting: bounds(2), queued }))
}

fn caller(name: &str) -> Principal {
    Principal::from_proxy(name)
}

fn submit(admission: &Arc<Admission>, name: &str, agent: Option<&str>) -> Result<Admitted> {
    let promise = admission.reserve(&caller(name))?;
    Ok(promise
        .redeem(&JobId::generate()?, JobRequirements { agent: agent.map(str::to_owned), is_reading: false }))
}

fn runs(turn: &Admitted) -> bool {
    matches!(turn, Admitted::Now(_))
}

/// Two greedy callers take three quarters of the permits and of the queue; a third starts at once and still finds room in
/// the queue.
#[test]
fn the_last_quarter_is_for_callers_who_hold_none() {
    let admission = admission(16, 40);
    let mut held = Vec::new();
    for name in ["a", "b"] {
        while let Ok(turn) = submit(&admission, name, None) {
            held.push(turn);
        }
    }
    assert_eq!(admission.counts(), (13, 31), "b held none and had one of each quarter");
    let third = submit(&admission, "c", None).unwrap();
    assert!(runs(&third), "{third:?}");
    let waits = submit(&admission, "c", None).unwrap();
    assert!(!runs(&waits) && submit(&admission, "c", None).is_err());
    // Everything that was counted is given back.
    drop(held);
    drop((third, waits));
    assert_eq!(admission.counts(), (0, 0));
}

/// Jobs that need the same agent run one after another and delay no job that does not need it.
#[tokio::test]
async fn what_is_in_use_holds_up_nobody_else() {
    let admission = admission(16, 40);
    let first = submit(&admission, "a", Some("agent")).unwrap();
    assert!(runs(&first));
    let mut waiting: Vec<_> = (0..16).map(|_| submit(&admission, "a", Some("agent")).unwrap()).collect();
    assert!(!waiting.iter().any(runs) && admission.counts() == (1, 16));
    // A job of the same caller for another agent, queued behind them, starts; so does one of another caller.
    let Admitted::Later(mut other) = submit(&admission, "a", Some("other")).unwrap() else {
        panic!("its own wait")
    };
    let other = other.turn().await.unwrap();
    assert!(runs(&submit(&admission, "b", None).unwrap()));
    drop(first);
    let Admitted::Later(mut second) = waiting.remove(0) else { panic!("it waited") };
    let second = second.turn().await.unwrap();
    assert_eq!(admission.counts(), (2, 15));
    drop((other, second, waiting));
    assert_eq!(admission.counts(), (0, 0));
}

/// Reading jobs start at once whatever runs and waits, up to as many as may run.
#[test]
fn reads_need_no_permit() {
    let admission = admission(4, 4);
    let works: Vec<_> = (0..4).map(|_| submit(&admission, "a", None).unwrap()).collect();
    let read = || {
        let promise = admission.reserve(&caller("a")).unwrap();
        promise.redeem(&JobId::generate().unwrap(), JobRequirements { agent: None, is_reading: true })
    };
    let reads: Vec<_> = (0..4).map(|_| read()).collect();
    assert_eq!(reads.iter().filter(|turn| runs(turn)).count(), 3, "three quarters are one caller's");
    drop((works, reads));
    assert_eq!(admission.counts(), (0, 0));
}

/// A job that waits for a person holds no permit and works again at once.
#[test]
fn who_waits_for_a_person_holds_none() {
    let admission = admission(1, 4);
    let Admitted::Now(mut asks) = submit(&admission, "a", None).unwrap() else { panic!("it runs") };
    asks.suspend();
    let second = submit(&admission, "b", None).unwrap();
    assert!(runs(&second) && admission.counts() == (2, 0));
    asks.resume();
    assert!(!runs(&submit(&admission, "c", None).unwrap()));
    drop((asks, second));
    assert_eq!(admission.counts(), (0, 0));
}

/// When too many jobs rest already, a further one counts as work while it waits.
#[test]
fn open_sessions_have_a_bound_of_their_own() {
    let admission = admission(8, 4);
    let mut asking = Vec::new();
    for _ in 0..3 {
        let Admitted::Now(mut permit) = submit(&admission, "a", None).unwrap() else { panic!("it runs") };
        permit.suspend();
        asking.push(permit);
    }
    let counts: Vec<_> = asking.iter().map(|permit| permit.counts).collect();
    assert_eq!(counts, [PermitState::Resting, PermitState::Resting, PermitState::Working]);
    assert_eq!(admission.counts(), (3, 0));
    drop(asking);
    assert_eq!(admission.counts(), (0, 0));
}

/// Wider bounds start what waits; narrower ones end nothing, and hold for what comes.
#[tokio::test]
async fn bounds_that_change_hold_from_then_on() {
    let admission = admission(1, 1);
    let first = submit(&admission, "a", None).unwrap();
    let Admitted::Later(mut waits) = submit(&admission, "a", None).unwrap() else { panic!("it runs") };
    assert!(submit(&admission, "a", None).is_err());
    let bounds = |most| quota::Bounds { most, most_per_caller: None };
    let wanted = |running, queued| AdmissionBounds {
        running: bounds(running),
        resting: bounds(2),
        queued: bounds(queued),
    };
    admission.set_bounds(wanted(3, 1));
    let second = waits.turn().await.unwrap();
    assert_eq!(admission.counts(), (2, 0));
    admission.set_bounds(wanted(1, 2));
    assert_eq!(admission.counts(), (2, 0));
    let third = submit(&admission, "b", None).unwrap();
    assert!(!runs(&third));
    drop(second);
    assert_eq!(admission.counts(), (1, 1), "one runs, which is all there may be");
    drop(first);
    assert_eq!(admission.counts(), (1, 0));
}
