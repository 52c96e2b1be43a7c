package grpcresource_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The package brings gRPC and what that brings, and of ours the resource server with its
// rooms. The table is not loosened to fix a build.
func TestDependencies(t *testing.T) {
	const ours = "github.com/certbound/certbound"
	modules := []string{
		"google.golang.org/grpc", "google.golang.org/genproto/googleapis/rpc", "google.golang.org/protobuf",
		"golang.org/x/net", "golang.org/x/sys", "golang.org/x/text", "github.com/go-jose/go-jose/v4",
	}
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}} {{with .Module}}{{.Path}}{{end}}{{end}}", ".")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	rooms := 0
	for line := range strings.Lines(string(out)) {
		path, module, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case path == "" || module == ours+"/resourceserver/grpcresource":
		case module == ours:
			rooms++
			if room := strings.TrimPrefix(path, ours+"/"); slices.Contains([]string{"authserver", "oauthclient", "pkitest"}, room) {
				t.Errorf("must not import %s", room)
			}
		case !slices.Contains(modules, module):
			t.Errorf("must not import %s of %s", path, module)
		}
	}
	if rooms == 0 {
		t.Error("no room of ours: the list is not that of this package")
	}
}
