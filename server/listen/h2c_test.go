package listen

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/pkitest"
)

// HTTP/2 without TLS is spoken only by setting, and only by prior knowledge: a client
// cannot ask for it within HTTP/1.1, since a proxy before us would then lose sight of the
// requests inside.
func TestH2C(t *testing.T) {
	say := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) })
	get := func(t *testing.T, address string, h2 bool) (string, error) {
		t.Helper()
		protocols := new(http.Protocols)
		protocols.SetHTTP1(!h2)
		protocols.SetUnencryptedHTTP2(h2)
		tr := &http.Transport{Protocols: protocols}
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr, Timeout: 30 * time.Second}).Get("http://" + address)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	_, without := serve(t, Config{Handler: say})
	_, with := serve(t, Config{Handler: say, H2C: true})
	if got, err := get(t, with, true); err != nil || got != "HTTP/2.0" {
		t.Errorf("with H2C: %q, %v; want HTTP/2.0", got, err)
	}
	if got, err := get(t, with, false); err != nil || got != "HTTP/1.1" {
		t.Errorf("with H2C, a client of HTTP/1.1: %q, %v; want HTTP/1.1", got, err)
	}
	if got, err := get(t, without, true); err == nil {
		t.Errorf("without H2C: %q, want an error", got)
	}
	for name, address := range map[string]string{"with": with, "without": without} {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(30 * time.Second))
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 200 ") {
			t.Errorf("%s H2C, Upgrade: h2c was answered %q, %v; want 200 over HTTP/1.1", name, line, err)
		}
	}
	if _, err := New(Config{Handler: say, H2C: true, Pair: pairFor(t, pkitest.P256)}); err == nil {
		t.Error("H2C with TLS was accepted")
	}
}
