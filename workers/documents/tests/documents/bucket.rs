use serde_json::json;
use tasklease_documents::failure::Kind;
use tasklease_documents::files::{FilePath, Files};
use tasklease_documents::steps::Steps as _;
use tasklease_documents::tokenize::{Params, tokenize_file};

use crate::recorder::{Recorder, StopAt};

fn path(text: &str) -> FilePath {
    FilePath::parse("file", text).unwrap()
}

#[tokio::test]
async fn an_object_store_is_a_root_like_a_folder() {
    let files = Files::open("memory:///prefix", 1000).unwrap();
    let steps = Recorder::new(StopAt::Never);
    let put = |name: &str, text: String| {
        let (files, path, run) = (files.clone(), path(name), steps.run_name());
        async move {
            let staged = files
                .stage(&path, run, move |out| out.write_all(text.as_bytes()))
                .await
                .unwrap();
            staged.commit().await.unwrap();
        }
    };
    put("texts/in.txt", "hello world".to_owned()).await;
    put("texts/big.txt", "x".repeat(1001)).await;

    let params: Params = serde_json::from_value(json!({
        "input_file": "texts/in.txt", "output_file": "tokens/out.json", "sleep_duration": 0,
    }))
    .unwrap();
    let output = tokenize_file(&files, &params, &steps).await.unwrap();
    assert_eq!(output.token_count, 2);
    assert!(
        files
            .read(&path("tokens/out.json"))
            .await
            .unwrap()
            .starts_with(b"{")
    );

    let failure = files.read(&path("texts/big.txt")).await.unwrap_err();
    assert_eq!(failure.kind, Kind::InputTooLarge);
    let failure = files.read(&path("texts/none.txt")).await.unwrap_err();
    assert_eq!(failure.kind, Kind::FileNotFound);
}

#[tokio::test]
async fn an_object_staged_but_not_committed_does_not_appear() {
    let files = Files::open("memory:///", 100).unwrap();
    let run = Recorder::new(StopAt::Never).run_name();
    let staged = files
        .stage(&path("out"), run, |out| out.write_all(b"x"))
        .await
        .unwrap();
    drop(staged);
    assert_eq!(
        files.read(&path("out")).await.unwrap_err().kind,
        Kind::FileNotFound
    );
}
