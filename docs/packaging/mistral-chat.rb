# A formula for a Homebrew tap of your own. In the folder of the source, a git clone:
#
#     brew tap-new you/tap && cp docs/packaging/mistral-chat.rb "$(brew --repository you/tap)/Formula/"
#     HOMEBREW_MISTRAL_CHAT_SOURCE=$PWD brew install --HEAD you/tap/mistral-chat
#
# pip fetches the Python packages as wheels, which Homebrew's own repository does not allow, but a tap may.
class MistralChat < Formula
  desc "Chat with Mistral models on your own machine"
  license "Apache-2.0"
  head "file://#{ENV.fetch("HOMEBREW_MISTRAL_CHAT_SOURCE", Dir.pwd)}", using: :git, branch: "main"

  depends_on "cmake" => :build
  depends_on "ninja" => :build
  depends_on "python@3.13"

  def install
    system Formula["python@3.13"].opt_bin/"python3.13", "-m", "venv", libexec
    ENV["CMAKE_ARGS"] = "-DCMAKE_PROJECT_llama_cpp_INCLUDE='#{buildpath}/chat/llama/build.cmake'"
    system libexec/"bin/pip", "install", "--no-cache-dir", buildpath
    bin.install_symlink libexec/"bin/mistral-chat", libexec/"bin/mchat"
    man1.install_symlink Dir[libexec/"share/man/man1/*.1"]
  end

  test do
    assert_match "convert", shell_output("#{bin}/mistral-chat --help")
  end
end
