use super::*;

#[test]
fn file_errors_have_hints() {
    let io = || io::Error::from(io::ErrorKind::Other);
    let path = || PathBuf::from("/jobs/a/meta.json");
    let store = StoreError { operation: "read", path: path(), source: io() };
    for (error, code, hint) in [
        (Error::Unreadable("a".to_owned(), "torn".to_owned()), "record_unreadable", "output.log"),
        (Error::NotWritten(path(), io()), "write_failed", "space"),
        (Error::Store(store), "jobs_dir_error", "--jobs-dir"),
    ] {
        let hint_text = error.hint().unwrap_or_default();
        assert!(error.code() == code && hint_text.contains(hint), "{error}: {hint_text}");
    }
}
