use tasklease_files::{FileErrorKind, FilePath, Files, RunName};

fn path(text: &str) -> FilePath {
    FilePath::parse("file", text).unwrap()
}

fn run() -> RunName {
    RunName {
        task_id: "0190f3c4-0000-7000-8000-00000000000a".to_owned(),
        lease_token: 1,
    }
}

async fn put(files: &Files, name: &str, text: String) {
    let staged = files
        .stage(&path(name), run(), move |out| out.write_all(text.as_bytes()))
        .await
        .unwrap();
    staged.commit().await.unwrap();
}

#[tokio::test]
async fn an_object_store_is_a_root_like_a_folder() {
    let files = Files::open("memory:///prefix", 1000).unwrap();
    put(&files, "texts/in.txt", "hello world".to_owned()).await;
    put(&files, "texts/big.txt", "x".repeat(1001)).await;
    assert_eq!(files.read(&path("texts/in.txt")).await.unwrap(), "hello world");
    put(&files, "texts/in.txt", "new".to_owned()).await;
    assert_eq!(files.read(&path("texts/in.txt")).await.unwrap(), "new");
    for (name, kind) in [
        ("texts/big.txt", FileErrorKind::TooLarge),
        ("texts/none.txt", FileErrorKind::NotFound),
    ] {
        assert_eq!(files.read(&path(name)).await.unwrap_err().kind(), kind, "{name}");
    }
}

#[tokio::test]
async fn an_object_staged_but_not_committed_does_not_appear() {
    let files = Files::open("memory:///", 100).unwrap();
    let staged = files
        .stage(&path("out"), run(), |out| out.write_all(b"x"))
        .await
        .unwrap();
    drop(staged);
    let error = files.read(&path("out")).await.unwrap_err();
    assert_eq!(error.kind(), FileErrorKind::NotFound);
}
