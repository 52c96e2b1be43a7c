//go:build linux

package e2e

import (
	"crypto/tls"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// What the test reads of a manifest; that the rest is right is for the types of Kubernetes.
type manifest struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct {
		Template struct {
			Spec struct {
				Containers []container
				Volumes    []struct {
					Name      string
					ConfigMap *struct{ Name string } `yaml:"configMap"`
					Secret    *struct {
						SecretName string `yaml:"secretName"`
					}
					EmptyDir *struct{ Medium string } `yaml:"emptyDir"`
				}
			}
		}
	}
}

type container struct {
	Name    string
	Command []string
	Ports   []struct {
		Name string
		Port int `yaml:"containerPort"`
	}
	Ready        podProbe `yaml:"readinessProbe"`
	Live         podProbe `yaml:"livenessProbe"`
	VolumeMounts []struct {
		Name string
		Path string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

type podProbe struct {
	HTTPGet *struct{ Path, Port string } `yaml:"httpGet"`
	TCP     *struct{ Port string }       `yaml:"tcpSocket"`
}

// envoyProgram finds, or fetches, the real Envoy.
func envoyProgram(t *testing.T) string {
	t.Helper()
	out, err := exec.Command(filepath.Join("..", "proxies", "build", "envoy", "fetch.sh")).CombinedOutput()
	if err != nil {
		missing(t, "envoy cannot be fetched: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// The page on Kubernetes, word for word, but for the addresses: the files of the ConfigMaps
// in the real programs, each started with the command of its container and its volumes, and
// the client's lines.
func TestKubernetesPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "kubernetes.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "## Five minutes\n")
	text, _, _ = strings.Cut(text, "\n## ")
	var manifests string
	var shell, shown, kubectl []string
	for _, m := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		switch {
		case m[1] == "yaml":
			manifests += m[2]
		case m[1] == "text":
			shown = append(shown, m[2])
		case m[1] == "sh" && strings.HasPrefix(m[2], "kubectl "):
			kubectl = append(kubectl, strings.Split(strings.TrimSpace(m[2]), "\n")...)
		case m[1] == "sh":
			shell = append(shell, m[2])
		}
	}
	// These are not run: there is no cluster. What they make is made below.
	if want := []string{
		"kubectl create secret tls files-tls --cert=server.pem --key=server-key.pem",
		"kubectl create configmap as-ca --from-file=ca.pem=server-ca.pem",
		"kubectl apply -f files.yaml",
	}; !slices.Equal(kubectl, want) {
		t.Fatalf("the page has %q, want %q", kubectl, want)
	}
	if len(shell) != 2 || len(shown) != 2 {
		t.Fatalf("%d blocks are run and %d are shown, want 2 and 2", len(shell), len(shown))
	}
	t.Run("types of Kubernetes", func(t *testing.T) {
		cmd := exec.CommandContext(t.Context(), "go", "run", ".")
		cmd.Dir, cmd.Stdin = filepath.Join("..", "kubernetes"), strings.NewReader(manifests)
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
		out, err := cmd.Output()
		if err != nil {
			if e, ok := err.(*exec.ExitError); ok {
				out = e.Stderr
			}
			t.Fatalf("%v\n%s", err, out)
		}
		if got := strings.Fields(string(out)); !slices.Equal(got, []string{"ConfigMap", "ConfigMap", "Deployment", "Service"}) {
			t.Errorf("the manifests are %q", got)
		}
		// A check that finds nothing would pass everything.
		cmd = exec.CommandContext(t.Context(), "go", "run", ".")
		cmd.Dir, cmd.Env = filepath.Join("..", "kubernetes"), append(os.Environ(), "GOWORK=off", "GOFLAGS=")
		cmd.Stdin = strings.NewReader(strings.Replace(manifests, "readinessProbe", "readynessProbe", 1))
		if err := cmd.Run(); err == nil {
			t.Error("a misspelled field is not found")
		}
	})

	dir, ports := t.TempDir(), freePorts(t, 6)
	env := append(os.Environ(), "PATH="+filepath.Dir(programPath)+":"+os.Getenv("PATH"))
	background(t, dir, env, "certbound dev --port "+ports[0]+" --mtls-port "+ports[1]+" --api-port "+ports[2]+"\n")
	handshakeUntil(t, ports[0])
	made := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, "certbound-dev", name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for _, name := range []string{"server.pem", "server-key.pem", "server-ca.pem", "billing.pem", "billing-key.pem", "mallory.pem", "mallory-key.pem"} {
		write(t, dir, name, made(name))
	}
	https, admin, api := ports[3], ports[4], ports[5]
	addresses := []string{
		"https://files.agora.example/hello.txt", "https://localhost:" + https + "/hello.txt",
		"https://files.agora.example", "https://localhost:" + ports[2], "https://as.agora.example", "https://localhost:" + ports[0],
		"files.agora.example", "localhost", "address: 0.0.0.0, port_value: 8443", "address: 127.0.0.1, port_value: " + https,
		`":9091"`, "127.0.0.1:" + admin, "9000", api,
	}

	// The volumes, each in a folder.
	contents := map[string]map[string]string{
		"files-tls": {"tls.crt": string(made("server.pem")), "tls.key": string(made("server-key.pem"))},
		"as-ca":     {"ca.pem": string(made("server-ca.pem"))},
	}
	var pod manifest
	for doc := range strings.SplitSeq(manifests, "\n---\n") {
		var m manifest
		if err := yaml.Unmarshal([]byte(doc), &m); err != nil {
			t.Fatal(err)
		}
		switch m.Kind {
		case "ConfigMap":
			contents[m.Metadata.Name] = m.Data
		case "Deployment":
			pod = m
		}
	}
	for _, c := range pod.Spec.Template.Spec.Containers {
		for _, v := range c.VolumeMounts {
			addresses = append(addresses, v.Path+"/", filepath.Join(dir, "volumes", v.Name)+"/")
			if c.Name == "api" { // its command names the folder
				addresses = append(addresses, v.Path, filepath.Join(dir, "volumes", v.Name))
			}
		}
	}
	here := strings.NewReplacer(addresses...)
	for _, v := range pod.Spec.Template.Spec.Volumes {
		files := map[string]string{}
		switch {
		case v.ConfigMap != nil:
			files = contents[v.ConfigMap.Name]
		case v.Secret != nil:
			files = contents[v.Secret.SecretName]
		}
		if len(files) == 0 && v.EmptyDir == nil {
			t.Fatalf("nothing is in the volume %s", v.Name)
		}
		if err := os.MkdirAll(filepath.Join(dir, "volumes", v.Name), 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			write(t, filepath.Join(dir, "volumes", v.Name), name, []byte(here.Replace(text)))
		}
	}

	// The containers.
	programs := map[string]string{"/certbound": programPath, "envoy": envoyProgram(t), "python3": "python3"}
	started, probes := 0, 0
	for _, c := range pod.Spec.Template.Spec.Containers {
		program, ok := programs[c.Command[0]]
		if !ok {
			t.Fatalf("the container %s runs %q, which the test does not have", c.Name, c.Command[0])
		}
		started++
		var args []string
		for _, arg := range c.Command[1:] {
			args = append(args, here.Replace(arg))
		}
		run(t, c.Name, program, args...)
		for _, p := range []podProbe{c.Ready, c.Live} {
			switch {
			case p.HTTPGet != nil:
				probes++
				probeUntil(t, "http://127.0.0.1:"+admin+p.HTTPGet.Path)
			case p.TCP != nil:
				probes++
				waitFor(t, https)
			}
		}
	}
	if started != 3 || probes != 3 {
		t.Errorf("%d containers with %d probes, want 3 and 3", started, probes)
	}
	waitFor(t, api)
	write(t, dir, "vars", nil)
	for i, block := range shell {
		// One shell for all: what it sets, the next block finds.
		cmd := exec.CommandContext(t.Context(), "bash", "-c", "set -eo pipefail; . ./vars; set -a\n"+here.Replace(block)+"\nset +a; declare -p TOKEN > vars")
		cmd.Dir, cmd.Env = dir, env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s\n%v\n%s", block, err, out)
		}
		if strings.TrimSpace(string(out)) != strings.TrimSpace(shown[i]) {
			t.Errorf("the page shows\n%s\nand this came out\n%s", shown[i], out)
		}
	}
}

// run starts a program until the test ends.
func run(t *testing.T, name, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = t.TempDir()
	log := &safeBuffer{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, tail(log.String()))
		}
	})
}

// handshakeUntil waits for a server that has its certificate.
func handshakeUntil(t *testing.T, port string) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"})
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no handshake on port %s within a minute: %v", port, err)
		}
	}
}

// probeUntil asks as the kubelet does, until the answer is 200.
func probeUntil(t *testing.T, url string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%s: no 200 within 30 s: %v, %v", url, resp, err)
		}
	}
}
