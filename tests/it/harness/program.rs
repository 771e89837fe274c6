//! The real binary as a child process: started, watched, stopped, and reported in full when an assertion fails.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::scratch::Scratch;
use super::screen::Screen;
use super::wait::{PATIENCE, look_until, wait_for_some};

/// More than this of stdout is a file, not a message, and is not worth showing.
const SHOWN_STDOUT: usize = 2048;

/// A user who owns nothing and runs nothing else.
const NOBODY: u32 = 65_534;

/// The command line of one run of the binary, under construction.
pub struct Program {
    binary: PathBuf,
    args: Vec<OsString>,
    dir: PathBuf,
    env: Vec<(String, OsString)>,
    shell: Option<String>,
    user: Option<u32>,
    has_own_session: bool,
    log: Option<PathBuf>,
    stdin: Stdio,
    stdout: Option<Stdio>,
    stderr: Option<Stdio>,
}

/// `xfer get` from `addr` into `out`, logging to `client.log`; the FILEs are for the test to add.
pub fn get(scratch: &Scratch, addr: SocketAddr) -> Program {
    plain_get(scratch, addr).arg("-d").arg(scratch.out())
}

/// The same without `-d`, for tests of `-o` and of the default folder.
pub fn plain_get(scratch: &Scratch, addr: SocketAddr) -> Program {
    let program = Program::xfer(scratch).args(["get", "-H"]).arg(addr.to_string());
    program.log_file(scratch.path("client.log"))
}

impl Program {
    /// Runs in the scratch directory, with nothing from the environment that could change what it does.
    pub fn xfer(scratch: &Scratch) -> Program {
        Program {
            binary: PathBuf::from(env!("CARGO_BIN_EXE_xfer")),
            args: Vec::new(),
            dir: scratch.path(""),
            env: Vec::new(),
            shell: None,
            user: None,
            has_own_session: false,
            log: None,
            stdin: Stdio::null(),
            stdout: None,
            stderr: None,
        }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Program {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Program {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Runs somewhere else than in the scratch directory.
    pub fn in_dir(mut self, dir: &Path) -> Program {
        self.dir = dir.to_owned();
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Program {
        self.env.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Another path to the binary: what it sees as its own name.
    pub fn called(mut self, path: &Path) -> Program {
        self.binary = path.to_owned();
        self
    }

    /// Where the log goes (`--log-file`), and what a failure shows.
    pub fn log_file(mut self, path: impl AsRef<Path>) -> Program {
        self.log = Some(path.as_ref().to_owned());
        self
    }

    /// Without `--log-file`, for tests that say themselves where the log goes.
    pub fn own_log(mut self) -> Program {
        self.log = None;
        self
    }

    /// A line of sh that is run before the binary takes the shell's place: `ulimit -n 64`, or `exec 2>&-`.
    pub fn after(mut self, line: &str) -> Program {
        self.shell = Some(line.to_owned());
        self
    }

    /// Run by a user to whom modes and limits mean something: where these tests run as root, by nobody. The scratch must be
    /// one for everybody, and gets a copy of the binary: where that lies, nobody may not look.
    pub fn unprivileged(mut self, scratch: &Scratch) -> Program {
        let copy = scratch.path("xfer");
        if !copy.exists() {
            // By another process: one that this one starts meanwhile would keep the copy open, and it could not be run.
            let copied = Command::new("cp").arg(&self.binary).arg(&copy).status();
            assert!(copied.is_ok_and(|status| status.success()), "a copy of the program");
        }
        self.user = rustix::process::geteuid().is_root().then_some(NOBODY);
        self.called(&copy)
    }

    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Program {
        self.stdin = stdin.into();
        self
    }

    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Program {
        self.stdout = Some(stdout.into());
        self
    }

    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Program {
        self.stderr = Some(stderr.into());
        self
    }

    /// On this terminal with all three descriptors, as its only session: with Ctrl-C, and with a foreground.
    pub fn on(mut self, screen: &Screen) -> Program {
        self.has_own_session = true;
        let (stdin, stdout, stderr) = (screen.terminal(), screen.terminal(), screen.terminal());
        self.env("TERM", "xterm").env("LC_ALL", "C.UTF-8").stdin(stdin).stdout(stdout).stderr(stderr)
    }

    pub fn run(self) -> Outcome {
        self.spawn().finish()
    }

    pub fn spawn(mut self) -> Running {
        if let Some(log) = &self.log {
            let at = self.args.len().min(1);
            self.args.splice(at..at, [OsString::from("--log-file"), log.clone().into()]);
        }
        let mut command = self.command();
        let shown = format!("{command:?}\nin {}", self.dir.display());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
        let stdout = Capture::of(child.stdout.take());
        let stderr = Capture::of(child.stderr.take());
        Running { child, shown, stdout, stderr, log: self.log, started: Instant::now(), reported: false }
    }

    fn command(&mut self) -> Command {
        let mut words: Vec<OsString> = vec![self.binary.clone().into()];
        if let Some(line) = &self.shell {
            let script = format!("{line}\nexec \"$0\" \"$@\"");
            words.splice(0..0, ["sh".into(), "-c".into(), script.into()]);
        }
        if self.has_own_session {
            // Of util-linux, which every system has: it takes the place of nobody, since it leads no process group.
            words.splice(0..0, ["setsid".into(), "--ctty".into()]);
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        for name in ["XFER_HOST", "XFER_PORT", "XFER_DOWNLOAD_DIR", "XFER_LOG_DIR", "RUST_LOG"] {
            command.env_remove(name);
        }
        command.args(&self.args).current_dir(&self.dir).envs(self.env.drain(..));
        command.stdin(std::mem::replace(&mut self.stdin, Stdio::null()));
        command.stdout(self.stdout.take().unwrap_or_else(Stdio::piped));
        command.stderr(self.stderr.take().unwrap_or_else(Stdio::piped));
        command
    }
}

/// A process that has been started; killed on drop.
pub struct Running {
    child: Child,
    shown: String,
    stdout: Capture,
    stderr: Capture,
    log: Option<PathBuf>,
    started: Instant,
    reported: bool,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn process(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.process(), signal).unwrap();
    }

    pub fn stdout(&self) -> Vec<u8> {
        self.stdout.bytes()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.bytes()).into_owned()
    }

    pub fn log(&self) -> String {
        let bytes = self.log.as_ref().and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn wait_for_log(&self, fragment: &str) {
        wait_for_some(&format!("{fragment:?} in the log"), || self.log().contains(fragment).then_some(()));
    }

    pub fn wait_for_stderr(&self, fragment: &str) {
        wait_for_some(&format!("{fragment:?} on stderr"), || self.stderr().contains(fragment).then_some(()));
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end.
    pub fn finish(mut self) -> Outcome {
        let Some(status) = look_until(PATIENCE, || self.child.try_wait().unwrap()) else {
            panic!("still running after {PATIENCE:?}");
        };
        let elapsed = self.started.elapsed();
        self.stdout.complete();
        self.stderr.complete();
        self.reported = true;
        let (stdout, stderr, log) = (self.stdout.bytes(), self.stderr(), self.log());
        let outcome = Outcome { shown: self.shown.clone(), status, elapsed, stdout, stderr, log };
        outcome.assert(!outcome.stderr.contains("panicked"), "no panic reaches a user");
        outcome
    }

    /// Sends the signal and waits for the end; `elapsed` in the outcome is counted from the signal.
    pub fn finish_after(mut self, signal: Signal) -> Outcome {
        self.started = Instant::now();
        self.signal(signal);
        self.finish()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails if the process is gone already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() && !self.reported {
            // The log is shown with the scratch directory.
            let (stdout, stderr) = (self.stdout(), self.stderr());
            eprintln!("{}", report(&self.shown, "killed at the end of the test", &stdout, &stderr, ""));
        }
    }
}

/// A process that has ended.
pub struct Outcome {
    shown: String,
    pub status: ExitStatus,
    pub elapsed: Duration,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub log: String,
}

impl Outcome {
    /// Panics with the whole report unless `condition`.
    pub fn assert(&self, condition: bool, what: &str) -> &Outcome {
        assert!(condition, "{what}\n{}", self.report());
        self
    }

    pub fn exits(&self, code: i32) -> &Outcome {
        self.assert(self.status.code() == Some(code), &format!("exit code {code} expected"))
    }

    pub fn prints_nothing_on_stdout(&self) -> &Outcome {
        self.assert(self.stdout.is_empty(), "stdout must stay empty")
    }

    pub fn stderr_has(&self, fragment: &str) -> &Outcome {
        self.assert(self.stderr.contains(fragment), &format!("{fragment:?} expected on stderr"))
    }

    pub fn stderr_lacks(&self, fragment: &str) -> &Outcome {
        self.assert(!self.stderr.contains(fragment), &format!("{fragment:?} not expected on stderr"))
    }

    pub fn log_has(&self, fragment: &str) -> &Outcome {
        self.assert(self.log.contains(fragment), &format!("{fragment:?} expected in the log"))
    }

    pub fn log_lacks(&self, fragment: &str) -> &Outcome {
        self.assert(!self.log.contains(fragment), &format!("{fragment:?} not expected in the log"))
    }

    pub fn took_less_than(&self, limit: Duration) -> &Outcome {
        self.assert(self.elapsed < limit, &format!("less than {limit:?} expected"))
    }

    /// With `-q` a success says nothing.
    pub fn assert_quiet(&self) -> &Outcome {
        self.prints_nothing_on_stdout().assert(self.stderr.is_empty(), "stderr must stay empty")
    }

    /// One line `xfer: what failed: why`, and nothing else that looks like an error.
    pub fn has_one_error_line(&self) -> &Outcome {
        // A retry has its line too, which says that another attempt follows.
        let is_final = |line: &&str| line.starts_with("xfer: ") && !line.contains("; retrying in ");
        let errors = self.stderr.lines().filter(is_final).count();
        self.assert(errors == 1, "exactly one line `xfer: what failed: why` expected on stderr")
    }

    /// As many attempts in the client's log as expected.
    pub fn made_attempts(&self, count: usize) -> &Outcome {
        let attempts = self.log.matches(" - attempt ").count();
        self.assert(attempts == count, &format!("{count} attempts expected in the log, found {attempts}"))
    }

    /// A peer's bytes reach neither the terminal nor the log as they are.
    pub fn shows_no_control_characters(&self) -> &Outcome {
        let dangerous = |c: char| c != '\n' && super::logfile::is_dangerous(c);
        self.assert(!self.stderr.contains(dangerous), "no control characters on stderr")
            .assert(!self.log.contains(dangerous), "no control characters in the log")
    }

    pub fn report(&self) -> String {
        let status = format!("{} after {:?}", self.status, self.elapsed);
        report(&self.shown, &status, &self.stdout, &self.stderr, &self.log)
    }
}

fn report(shown: &str, status: &str, stdout: &[u8], stderr: &str, log: &str) -> String {
    let mut text = format!("command: {shown}\nended: {status}\nstdout ({} bytes):\n", stdout.len());
    let shown_bytes = &stdout[..stdout.len().min(SHOWN_STDOUT)];
    let _ = writeln!(text, "{}\nstderr:\n{stderr}\nlog:\n{log}", shown_bytes.escape_ascii());
    text
}

/// A stream that a thread of its own reads to the end, so that the child never waits for the test.
struct Capture {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Capture {
    fn of<R: Read + Send + 'static>(source: Option<R>) -> Capture {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let reader = source.map(|mut source| {
            let bytes = Arc::clone(&bytes);
            std::thread::spawn(move || {
                let mut block = vec![0; 64 * 1024];
                while let Ok(count @ 1..) = source.read(&mut block) {
                    bytes.lock().unwrap().extend_from_slice(&block[..count]);
                }
            })
        });
        Capture { bytes, reader }
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    fn complete(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }
}
