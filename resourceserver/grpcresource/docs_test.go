package grpcresource_test

import (
	"crypto/tls"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/oauth2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/certbound/certbound/resourceserver/grpcresource"
)

// The page has every setting. Its Go is compared with the examples by the tests of docs.
func TestSettingsAreDocumented(t *testing.T) {
	page := read(t, "../../docs/grpc.md")
	typ := reflect.TypeFor[grpcresource.Config]()
	for f := range typ.Fields() {
		if !strings.Contains(page, "`"+f.Name+"`") {
			t.Errorf("grpc.md says nothing of %s", f.Name)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The credentials of the example do what the page says.
func TestPerRPCCredentials(t *testing.T) {
	p := certs()
	w := newWorld(t, nil)
	cert := p.right.TLS()
	tokens := grpc.WithPerRPCCredentials(perRPC{oauth2.StaticTokenSource(&oauth2.Token{AccessToken: w.token(cnf(p.right))})})
	conn := w.connectWith(tokens, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs: p.servers.Pool(), ServerName: host,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
	})))
	for _, method := range []string{unaryCall, bidiCall} {
		w.wantOK(t, call(t.Context(), conn, method))
	}
}
