use tasklease_files::{FileErrorKind, FilePath};

#[test]
fn paths_that_could_leave_the_root_are_refused_by_their_form() {
    let long_name = "n".repeat(256);
    let long_path = "d/".repeat(600) + "f";
    for text in [
        "",
        ".",
        "./",
        "/",
        "/etc/passwd",
        "//host/share",
        "..",
        "../secret",
        "a/../../secret",
        "a/..",
        "a/../b",
        "a//b",
        "a/",
        "a\\..\\b",
        "C:\\windows",
        "\\\\host\\share",
        "a\0b",
        "a\nb",
        "a\u{1b}[31mb",
        long_name.as_str(),
        long_path.as_str(),
    ] {
        let error = FilePath::parse("input_file", text).unwrap_err();
        assert_eq!(error.kind(), FileErrorKind::PathRefused, "{text:?}");
        assert!(error.message().contains("`input_file`"), "{error}");
        assert!(!error.message().contains(['\0', '\n', '\u{1b}']), "{error:?}");
    }
}

#[test]
fn ordinary_paths_are_accepted_and_brought_into_one_form() {
    for (text, expected) in [
        ("a.txt", "a.txt"),
        ("./a.txt", "a.txt"),
        ("a/./b.txt", "a/b.txt"),
        ("..a/b..", "..a/b.."),
        ("...", "..."),
        ("%2e%2e/a", "%2e%2e/a"),
        ("größe/日本 語.txt", "größe/日本 語.txt"),
        ("~/a", "~/a"),
    ] {
        assert_eq!(FilePath::parse("input_file", text).unwrap().as_str(), expected);
    }
}
