package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/certbound/certbound/pkitest"
)

var update = flag.Bool("update", false, "write golden files again")

// testNow is the time of commands in scripts, if it is set: for goldens.
const testNow = "CERTBOUND_TEST_NOW"

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"certbound": func() {
			a := newApp(os.Stdin, os.Stdout, os.Stderr)
			if text := os.Getenv(testNow); text != "" {
				now, err := time.Parse(time.RFC3339, text)
				if err != nil {
					panic(err)
				}
				a.now = func() time.Time { return now }
			}
			os.Exit(a.run(context.Background(), os.Args[1:]))
		},
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		UpdateScripts:       *update,
		Dir:                 "testdata/script",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Values["T"] = env.T()
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"ca": makeCA, "leaf": makeLeaf, "crl": makeCRL, "answers": waitAnswer, "freeports": freePorts, "ready": waitReady,
			"form": postForm, "mode": checkMode, "secret": readSecret, "attr": setAttr, "copies": makeForms,
			"subjects": nameSubjects,
		},
	})
}

// makeCA makes NAME.pem and NAME-key.pem: ca NAME SUBJECT
func makeCA(ts *testscript.TestScript, _ bool, args []string) {
	ca, err := pkitest.NewCA(pkitest.CAOptions{Subject: args[1]})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".pem"), ca.CertPEM(), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+"-key.pem"), ca.KeyPEM(), 0o600))
}

// makeLeaf makes NAME.pem and NAME-key.pem: leaf NAME CA|self SUBJECT [dns=…] [uri=…]
// [ip=…] [email=…] [days=N] [eku=none|server]
func makeLeaf(ts *testscript.TestScript, _ bool, args []string) {
	o := pkitest.LeafOptions{Subject: args[2]}
	for _, arg := range args[3:] {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "dns":
			o.DNS = append(o.DNS, value)
		case "uri":
			o.URI = append(o.URI, value)
		case "ip":
			o.IP = append(o.IP, net.ParseIP(value))
		case "email":
			o.Email = append(o.Email, value)
		case "days":
			var days int
			_, err := fmt.Sscan(value, &days)
			ts.Check(err)
			o.NotAfter = time.Now().Add(time.Duration(days)*24*time.Hour + time.Hour)
		case "eku":
			o.NoExtKeyUsage, o.Server = value == "none", value == "server"
		default:
			ts.Fatalf("leaf: %s", arg)
		}
	}
	var leaf *pkitest.Leaf
	var err error
	if args[1] == "self" {
		leaf, err = pkitest.SelfSigned(o)
	} else {
		pair, perr := tls.LoadX509KeyPair(ts.MkAbs(args[1]+".pem"), ts.MkAbs(args[1]+"-key.pem"))
		ts.Check(perr)
		ca := &pkitest.CA{Cert: pair.Leaf, Key: pair.PrivateKey.(crypto.Signer)}
		leaf, err = ca.Leaf(o)
	}
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".pem"), leaf.ChainPEM(), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+"-key.pem"), leaf.KeyPEM(), 0o600))
}

// makeCRL makes FILE, of certificates of the CA: crl CA FILE [LEAF…]
func makeCRL(ts *testscript.TestScript, _ bool, args []string) {
	pair, err := tls.LoadX509KeyPair(ts.MkAbs(args[0]+".pem"), ts.MkAbs(args[0]+"-key.pem"))
	ts.Check(err)
	ca := &pkitest.CA{Cert: pair.Leaf, Key: pair.PrivateKey.(crypto.Signer)}
	o := pkitest.CRLOptions{Number: big.NewInt(time.Now().UnixNano())} // a later list has a higher one
	o.ThisUpdate = time.Now()
	for _, name := range args[2:] {
		found, err := recognise([]byte(ts.ReadFile(name + ".pem")))
		ts.Check(err)
		o.Serials = append(o.Serials, found.certs[0].SerialNumber)
	}
	der, err := ca.CRLWith(o)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]+".new"), der, 0o600))
	ts.Check(os.Rename(ts.MkAbs(args[1]+".new"), ts.MkAbs(args[1])))
}

// makeForms writes a certificate in the forms of proxies: copies NAME
func makeForms(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0] + ".pem")
	found, err := recognise([]byte(text))
	ts.Check(err)
	der := found.certs[0].Raw
	b64 := base64.StdEncoding.EncodeToString(der)
	nginx := url.QueryEscape(text)
	nginx = strings.ReplaceAll(nginx, "+", "%20")
	alb := strings.NewReplacer("%2B", "+", "%2F", "/", "%3D", "=").Replace(nginx) // its safe characters
	for name, data := range map[string]string{
		"der": string(der), "base64": b64, "nginx": nginx, "alb": alb, "rfc9440": "Client-Cert: :" + b64 + ":",
		"oneline": strings.ReplaceAll(strings.TrimSpace(text), "\n", " "),
	} {
		ts.Check(os.WriteFile(ts.MkAbs(args[0]+"."+name), []byte(data), 0o600))
	}
}

// freePorts sets variables to ports that nobody listens on: freeports NAME…
func freePorts(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer l.Close() // all are open at the same time, so they differ
		ts.Setenv(name, fmt.Sprint(l.Addr().(*net.TCPAddr).Port))
	}
}

// waitReady waits for an answer 200: ready URL CA
func waitReady(ts *testscript.TestScript, _ bool, args []string) {
	var roots *x509.CertPool
	if len(args) > 1 {
		var err error
		roots, err = readPool(ts.MkAbs(args[1]))
		ts.Check(err)
	}
	client := httpClient(roots, nil)
	defer client.CloseIdleConnections()
	var last error
	for range 200 {
		res, err := client.Get(args[0])
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
			err = fmt.Errorf("status %d", res.StatusCode)
		}
		last = err
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("%s: %v", args[0], last)
}

// waitAnswer waits until a body has a text: answers URL TEXT
func waitAnswer(ts *testscript.TestScript, _ bool, args []string) {
	client := httpClient(nil, nil)
	defer client.CloseIdleConnections()
	for range 400 {
		res, err := client.Get(args[0])
		ts.Check(err)
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		ts.Check(err)
		if strings.Contains(string(body), args[1]) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("%s does not answer with %q", args[0], args[1])
}

// postForm posts a form and expects a status: form STATUS URL CA USER:PASSWORD FORM
func postForm(ts *testscript.TestScript, _ bool, args []string) {
	roots, err := readPool(ts.MkAbs(args[2]))
	ts.Check(err)
	req, err := http.NewRequest(http.MethodPost, args[1], strings.NewReader(args[4]))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	user, password, _ := strings.Cut(args[3], ":")
	req.SetBasicAuth(user, password)
	client := httpClient(roots, nil)
	defer client.CloseIdleConnections()
	// A change by command counts within a second.
	status := ""
	for range 60 {
		res, err := client.Do(req)
		ts.Check(err)
		res.Body.Close()
		if status = fmt.Sprint(res.StatusCode); status == args[0] {
			return
		}
		req.Body, err = req.GetBody()
		ts.Check(err)
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("expected %s, found %s", args[0], status)
}

// setAttr says which requirement a script proves: attr requirement IDS
func setAttr(ts *testscript.TestScript, _ bool, args []string) {
	ts.Value("T").(interface{ Attr(key, value string) }).Attr(args[0], strings.Join(args[1:], " "))
}

// readSecret sets a variable to the client_secret of an answer: secret FILE NAME
func readSecret(ts *testscript.TestScript, _ bool, args []string) {
	var answer clientOutcome
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &answer))
	ts.Setenv(args[1], answer.Secret)
}

// nameSubjects puts p-xxx… in place of the random subjects of accounts: subjects FILE…
func nameSubjects(ts *testscript.TestScript, _ bool, args []string) {
	subject := regexp.MustCompile(`p-[A-Za-z0-9_-]{24}`)
	for _, name := range args {
		text := subject.ReplaceAllString(ts.ReadFile(name), "p-"+strings.Repeat("x", 24))
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}

// checkMode checks permissions: mode 600 FILE…
func checkMode(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args[1:] {
		info, err := os.Stat(ts.MkAbs(name))
		ts.Check(err)
		if got := fmt.Sprintf("%o", info.Mode().Perm()); got != args[0] {
			ts.Fatalf("%s: expected mode %s, found %s", name, args[0], got)
		}
	}
}

// golden compares with a file, or writes it with -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; look at it, and run the test with -update if it is right:\n%s", name, got)
	}
}

// The help of every command, so that a change of it is seen in review.
func TestHelp(t *testing.T) {
	var out bytes.Buffer
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion" {
			return
		}
		var stdout, stderr bytes.Buffer
		args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
		if code := run(t.Context(), args, nil, &stdout, &stderr); code != exitDone || stderr.Len() > 0 {
			t.Errorf("%v: exit code %d, stderr %q", args, code, stderr.String())
		}
		if cmd.HasParent() && cmd.Example == "" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		fmt.Fprintf(&out, "=== %s\n%s\n", cmd.CommandPath(), stdout.String())
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newApp(nil, nil, nil).rootCommand())
	golden(t, filepath.Join("testdata", "help.golden"), out.Bytes())
}
