use std::sync::LazyLock;

use serde_json::{Value, json};
use tasklease_documents::tokenize::{Encoding, Output, Params, encode, tokenize_file};
use tasklease_worker::{StopFlag, TaskResult};

use crate::runs::{Run, marks, undisturbed};
use crate::workspace::Workspace;

const SPEECH: &str = "Ça va? Größe, naïve façade — “quotes” … don't WE'LL I'd they've it's OK'S";

/// Texts on which tokenizers tend to differ.
static CORPUS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut corpus: Vec<String> = [
        "",
        " ",
        "a",
        "\u{feff}with a byte order mark",
        "Hello, world!",
        SPEECH,
        "one\r\ntwo\r\n\r\nthree\r\n",
        "mixed\nline\r\nends\rhere\n\n\n",
        "tabs\t\t and   runs \u{a0}\u{3000}of \u{2003} space   ",
        "   leading\n   and\n\n   trailing   \n   ",
        "1 22 333 4444 55555 3.14159 1e-10 0xFF 1_000_000 ١٢٣٤ ½ Ⅷ",
        "日本語のテキスト、中文字符。한국어 문장입니다. ไทย",
        "مرحبا بالعالم שלום עולם \u{202e}override\u{202c}",
        "👨\u{200d}👩\u{200d}👧\u{200d}👦 🏳\u{fe0f}\u{200d}🌈 👍🏽 🇩🇪🇫🇷 e\u{301} n\u{303} z\u{335}\u{321}",
        "<|endoftext|> <|fim_prefix|>x<|fim_suffix|> <|im_start|>user <|endofprompt|>",
        "fn main() {\n    println!(\"{:?}\", vec![1, 2, 3]);\n}\n// comment\r\n#[test]",
        "def f(x):\n\treturn {k: v**2 for k, v in x.items() if not k.startswith('_')}\n",
        "{\"key\": [1, 2.5, null, true], \"nested\": {\"a\\n\": \"\\u00e9\"}}",
        "https://example.org/a/b?c=d&e=%20#frag user.name+tag@example.org",
        "CamelCaseAndSCREAMING_SNAKE kebab-case-here x=y;z+=1;;;;;;!!!???",
        "\u{0}\u{1}\u{7f}\u{85}\u{2028}\u{2029}\u{fffd}\u{10ffff}",
        "AaBbCc ǅ ǈ İstanbul ß SS ſ K",
    ]
    .map(str::to_owned)
    .into();
    for unit in [
        "a", " ", "\n", "\r\n", "0", "=", "é", "漢", "👍", "ab ", " \n", "\t ",
    ] {
        for count in [2, 3, 4, 7, 64, 1000] {
            corpus.push(unit.repeat(count));
            corpus.push(format!("x{}y", unit.repeat(count)));
        }
    }
    // Long enough to be slow for a quadratic tokenizer, short enough for the reference.
    corpus.push("a".repeat(100_000));
    corpus.push("lorem ipsum dolor sit amet, 42 times. ".repeat(2_000));
    corpus.push(scrambled(20_000));
    corpus
});

/// A text of characters from many scripts in an order without pattern, the same each time.
fn scrambled(length: usize) -> String {
    let alphabet: Vec<char> =
        "aeiouTZ019 \n\r\t'.,<|>_-äßłéçñабвгдΩλπשלוםسلام漢字かなカナ한글🙂🚀\u{301}\u{200d}"
            .chars()
            .collect();
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            alphabet[usize::try_from(state % alphabet.len() as u64).unwrap()]
        })
        .collect()
}

#[test]
fn cl100k_tokens_equal_those_of_the_reference() {
    let reference = tiktoken_rs::cl100k_base().unwrap();
    for text in CORPUS.iter() {
        let ours = encode(Encoding::Cl100kBase, text, &StopFlag::default()).unwrap();
        let start: String = text.chars().take(40).collect();
        assert_eq!(
            ours,
            reference.encode_ordinary(text),
            "{start:?}, {} bytes",
            text.len()
        );
    }
}

#[test]
fn o200k_tokens_equal_those_of_the_reference() {
    let reference = tiktoken_rs::o200k_base().unwrap();
    for text in CORPUS.iter() {
        let ours = encode(Encoding::O200kBase, text, &StopFlag::default()).unwrap();
        let start: String = text.chars().take(40).collect();
        assert_eq!(
            ours,
            reference.encode_ordinary(text),
            "{start:?}, {} bytes",
            text.len()
        );
    }
}

#[test]
fn a_raised_flag_ends_the_encoding() {
    let stop = StopFlag::default();
    stop.raise();
    let failure = encode(Encoding::Cl100kBase, "some text", &stop).unwrap_err();
    assert!(failure.is_cancelled());
}

async fn run(workspace: &Workspace, run: &Run, params: Value) -> TaskResult<Output> {
    let params: Params = serde_json::from_value(params).unwrap();
    tokenize_file(&workspace.files, &params, &run.context()).await
}

#[tokio::test]
async fn tokenizing_a_file_writes_the_tokens_and_returns_the_counts() {
    let workspace = Workspace::new();
    let text = format!("{SPEECH}\r\n<|endoftext|>\r\n");
    workspace.write("in.txt", &text);
    let undisturbed = undisturbed();
    let output = run(
        &workspace,
        &undisturbed,
        json!({ "input_file": "in.txt", "output_file": "new/folder/out.json" }),
    )
    .await
    .unwrap();

    let tokens = tiktoken_rs::cl100k_base().unwrap().encode_ordinary(&text);
    let expected = json!({
        "input_file": "in.txt",
        "char_count": text.chars().count(),
        "token_count": tokens.len(),
        "tokens": tokens,
        "encoding": "cl100k_base",
    });
    let written: Value = serde_json::from_slice(&workspace.read("new/folder/out.json")).unwrap();
    assert_eq!(written, expected);
    assert_eq!(
        serde_json::to_value(&output).unwrap(),
        json!({
            "input_file": "in.txt",
            "output_file": "new/folder/out.json",
            "char_count": text.chars().count(),
            "token_count": tokens.len(),
            "encoding": "cl100k_base",
        })
    );
    assert_eq!(
        marks(&undisturbed),
        [
            10.0, 20.0, 25.0, 30.0, 35.0, 40.0, 45.0, 50.0, 55.0, 60.0, 65.0, 70.0, 75.0, 80.0, 85.0, 95.0
        ]
    );
    assert_eq!(undisturbed.slept().as_secs(), 60);
    assert_eq!(workspace.all_files(), ["in.txt", "new/folder/out.json"]);
}

#[tokio::test]
async fn the_old_parameter_names_work_and_an_output_is_replaced() {
    let workspace = Workspace::new();
    workspace.write("in.txt", "");
    workspace.write("out.json", "an older version");
    let output = run(
        &workspace,
        &undisturbed(),
        json!({ "input_file_path": "./in.txt", "output_file_path": "out.json", "encoding": "o200k_base" }),
    )
    .await
    .unwrap();
    assert_eq!((output.char_count, output.token_count), (0, 0));
    assert_eq!(
        workspace.read("out.json"),
        br#"{"input_file":"in.txt","char_count":0,"token_count":0,"tokens":[],"encoding":"o200k_base"}"#
    );
}

#[tokio::test]
async fn bad_requests_fail_with_their_kind_and_write_nothing() {
    let workspace = Workspace::with_limit(1000);
    workspace.write("in.txt", "text");
    workspace.write("latin1.txt", b"caf\xe9");
    workspace.write("big.txt", "x".repeat(1001));
    for (params, kind, word) in [
        (
            json!({ "encoding": "p50k_base" }),
            "UNKNOWN_ENCODING",
            "`o200k_base`",
        ),
        (
            json!({ "sleep_duration": -1 }),
            "INVALID_PARAMETERS",
            "`sleep_duration`",
        ),
        (
            json!({ "sleep_duration": 1e9 }),
            "INVALID_PARAMETERS",
            "`sleep_duration`",
        ),
        (json!({ "input_file": "none.txt" }), "FILE_NOT_FOUND", "none.txt"),
        (
            json!({ "input_file": "no/folder.txt" }),
            "FILE_NOT_FOUND",
            "no/folder.txt",
        ),
        (json!({ "input_file": "latin1.txt" }), "INVALID_UTF8", "byte 3"),
        (json!({ "input_file": "big.txt" }), "INPUT_TOO_LARGE", "1000"),
        (
            json!({ "input_file": null }),
            "INVALID_PARAMETERS",
            "`input_file`",
        ),
        (
            json!({ "output_file": null }),
            "INVALID_PARAMETERS",
            "`output_file`",
        ),
        (
            json!({ "output_file": "./in.txt" }),
            "INVALID_PARAMETERS",
            "`output_file`",
        ),
    ] {
        let mut all = json!({ "input_file": "in.txt", "output_file": "out.json" });
        all.as_object_mut()
            .unwrap()
            .extend(params.as_object().unwrap().clone());
        let failure = run(&workspace, &undisturbed(), all).await.unwrap_err();
        assert_eq!(failure.kind(), kind, "{params}: {failure}");
        assert!(failure.message().contains(word), "{params}: {failure}");
        assert!(!failure.is_retryable());
    }
    assert_eq!(workspace.all_files(), ["big.txt", "in.txt", "latin1.txt"]);
}

#[tokio::test]
async fn a_cancel_at_any_mark_or_check_leaves_no_file() {
    let workspace = Workspace::new();
    workspace.write("in.txt", SPEECH);
    let params = json!({ "input_file": "in.txt", "output_file": "out.json" });
    let all = undisturbed();
    run(&workspace, &all, params.clone()).await.unwrap();
    std::fs::remove_file(workspace.path("out.json")).unwrap();

    for mark in marks(&all) {
        let failure = run(
            &workspace,
            &undisturbed().cancel_at_progress(mark),
            params.clone(),
        )
        .await
        .unwrap_err();
        assert!(failure.is_cancelled(), "at mark {mark}");
        assert_eq!(workspace.all_files(), ["in.txt"], "at mark {mark}");
    }
    let mut check = 0;
    while let Err(failure) = run(&workspace, &undisturbed().cancel_at_check(check), params.clone()).await {
        assert!(failure.is_cancelled(), "at check {check}");
        assert_eq!(workspace.all_files(), ["in.txt"], "at check {check}");
        check += 1;
    }
    // The last look comes between the finished temporary file and its rename.
    assert_eq!(check, 16);
}
