class Claudejob < Formula
  desc "Run Claude Code tasks as persistent, detached jobs"
  homepage "@HOMEPAGE@"
  version "@VERSION@"
  license "MIT"

@ARCHIVES@
  def install
    bin.install "claudejob"
    man1.install Dir["man/*.1"]
    bash_completion.install "completions/claudejob.bash" => "claudejob"
    zsh_completion.install "completions/_claudejob"
    fish_completion.install "completions/claudejob.fish"
    pkgshare.install "skills", "openclaw", "systemd"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/claudejob --version")
    system bin/"claudejob", "--jobs-dir", testpath/"jobs", "demo"
  end
end
