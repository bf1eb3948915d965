use std::time::Duration;

use serde_json::json;
use tasklease_documents::dummy::{DummyLong, DummyShort, DummyVeryLong, Params, sleep_in_steps};
use tasklease_documents::failure::Kind;

use crate::runs::{marks, undisturbed};

fn params(value: serde_json::Value) -> Params {
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn a_dummy_task_reports_each_step_and_sleeps_the_whole_duration() {
    let run = undisturbed();
    let nap = DummyShort::DEFAULT.overlaid(params(json!({}))).unwrap();
    let output = sleep_in_steps(nap, &run.context()).await.unwrap();
    assert_eq!(marks(&run), [20.0, 40.0, 60.0, 80.0, 100.0]);
    assert_eq!(run.slept(), Duration::from_secs(5));
    assert_eq!(output.steps_completed, 5);
    assert_eq!(output.duration, 5.0);
}

#[tokio::test]
async fn each_dummy_type_has_its_own_defaults() {
    for (default, seconds, steps) in [
        (DummyShort::DEFAULT, 5, 5),
        (DummyLong::DEFAULT, 30, 10),
        (DummyVeryLong::DEFAULT, 120, 20),
    ] {
        let run = undisturbed();
        let output = sleep_in_steps(default.overlaid(params(json!({}))).unwrap(), &run.context())
            .await
            .unwrap();
        assert_eq!(run.slept(), Duration::from_secs(seconds));
        assert_eq!(output.steps_completed, steps);
    }
}

#[tokio::test]
async fn a_callers_parameter_overlays_one_default_and_keeps_the_other() {
    let run = undisturbed();
    let nap = DummyLong::DEFAULT
        .overlaid(params(json!({ "duration": 0.5 })))
        .unwrap();
    let output = sleep_in_steps(nap, &run.context()).await.unwrap();
    assert_eq!((output.duration, output.steps_completed), (0.5, 10));
}

#[test]
fn absurd_lengths_are_refused_by_field() {
    for (value, field) in [
        (json!({ "duration": -1 }), "`duration`"),
        (json!({ "duration": 86_401 }), "`duration`"),
        (json!({ "steps": 0 }), "`steps`"),
        (json!({ "steps": 10_001 }), "`steps`"),
    ] {
        let failure = DummyShort::DEFAULT.overlaid(params(value)).unwrap_err();
        assert_eq!(failure.kind, Kind::InvalidParameter);
        assert!(failure.message.contains(field), "{failure}");
    }
    assert!(serde_json::from_value::<Params>(json!({ "stpes": 3 })).is_err());
}

#[tokio::test]
async fn a_dummy_task_cancelled_in_its_last_step_does_not_complete() {
    for mark in [20.0, 80.0, 100.0] {
        let run = undisturbed().cancel_at_progress(mark);
        let failure = sleep_in_steps(DummyShort::DEFAULT, &run.context())
            .await
            .unwrap_err();
        assert!(failure.is_cancelled(), "at {mark}");
    }
}
