use serde_json::{Value, json};
use tasklease_files::{FilePath, Files};
use tasklease_worker::{Context, Task, TaskError, TaskResult, testing::TestRun};

use crate::workspace::Workspace;

/// Reads the file that it is told.
struct Reads(Files);

impl Task for Reads {
    const TYPE: &'static str = "reads";
    type Params = String;
    type Output = Value;
    type Error = TaskError;

    async fn run(&self, name: String, _: &Context) -> TaskResult<Value> {
        self.0.read(&FilePath::parse("name", &name)?).await?;
        Ok(json!({}))
    }
}

#[tokio::test]
async fn a_tasks_error_keeps_the_kind_of_the_file_error_and_only_trouble_that_may_pass_is_retried() {
    let workspace = Workspace::new();
    workspace.write("big", vec![0; 1_001]);
    for (name, kind) in [
        ("none", "FILE_NOT_FOUND"),
        ("../none", "PATH_REFUSED"),
        ("big", "INPUT_TOO_LARGE"),
    ] {
        let run = TestRun::new(Reads(workspace.files.clone()));
        let outcome = run.run(json!(name)).await;
        let error = outcome.error().unwrap();
        assert_eq!((error.kind(), error.is_retryable()), (kind, false), "{name}");
    }
}
