package cli

import (
	"testing"

	"sallyport/internal/config"
	"sallyport/internal/config/configdoc"
)

// TestConfigGenerators: what they print is what the documents have, and asks no agent.
func TestConfigGenerators(t *testing.T) {
	if s := runCLI(t, nil, "config", "schema", "--system", "macos").wantExit(0); s.out != string(configdoc.Schema(config.MacOS)) {
		t.Errorf("%s", s.out)
	}
	if s := runCLI(t, nil, "config", "default").wantExit(0); s.out != string(configdoc.DefaultFile(config.Here, "")) {
		t.Errorf("%s", s.out)
	}
	runCLI(t, nil, "config", "schema").wantExit(0).object()
	runCLI(t, nil, "config", "schema", "--system", "beos").wantExit(ExitUsage).wantErr("linux, macos or windows")
	runCLI(t, nil, "config", "default", "x").wantExit(ExitUsage)
}
