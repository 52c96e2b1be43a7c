package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"text/tabwriter"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/certbound/certbound/bench/load"
	"github.com/certbound/certbound/bench/material"
)

// targetAuthz is 45 µs where the empty answer costs 33.
const targetAuthz = 1.36

// reportAuthz measures what answers Envoy over gRPC, beside what answers without looking.
func reportAuthz(ctx context.Context, out io.Writer, w *world) (missed int, err error) {
	list := []*server{
		{name: "empty answer", command: func(ctx context.Context, w *world) (*exec.Cmd, string, error) {
			path, err := w.build(ctx, ".", "./authz")
			if err != nil {
				return nil, "", err
			}
			return exec.CommandContext(ctx, path), "", nil
		}},
		{name: "empty, GOGC=400", command: func(ctx context.Context, w *world) (*exec.Cmd, string, error) {
			path, err := w.build(ctx, ".", "./authz")
			if err != nil {
				return nil, "", err
			}
			cmd := exec.CommandContext(ctx, path)
			cmd.Env = append(os.Environ(), "GOGC=400")
			return cmd, "", nil
		}},
		{name: "certbound", command: certbound("envoy-grpc")},
	}
	kinds := []mode{warm, cold}
	client := make(map[*server]authv3.AuthorizationClient)
	for _, s := range list {
		err := s.start(ctx, w)
		defer s.stop()
		if err != nil {
			return 0, fmt.Errorf("ext_authz: %s: %w", s.name, err)
		}
		address := strings.TrimSuffix(strings.TrimPrefix(s.url, "https://"), "/orders")
		conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		client[s] = authv3.NewAuthorizationClient(conn)
		if err := w.controlAuthz(ctx, client[s], s.name == "certbound"); err != nil {
			return 0, fmt.Errorf("ext_authz: %s: %w", s.name, err)
		}
	}
	for round := -1; round < *rounds; round++ {
		for i := range list {
			s := list[(i+max(round, 0))%len(list)]
			for _, m := range kinds {
				known := w.token()
				d, err := load.Calls(s.process.Process.Pid, 4, 2*requests[m], func(int) error {
					token := known
					if m == cold {
						token = w.token()
					}
					return allowed(client[s].Check(ctx, w.question(material.ClientFile, token)))
				})
				if err != nil {
					return 0, fmt.Errorf("ext_authz: %s: %w", s.name, err)
				}
				if round >= 0 {
					s.results[m] = append(s.results[m], d)
				}
			}
		}
	}
	fmt.Fprintf(out, "\next_authz over gRPC: CPU of the server's process per question, median of %d rounds\n", *rounds)
	tab := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(tab, "\t\tµs\tratio\ttarget\t\n")
	for _, m := range kinds {
		for _, s := range list {
			r, verdict := median(ratios(s.results[m], list[0].results[m])), ""
			if s.name == "certbound" && m == warm {
				verdict = fmt.Sprintf("≤ %.2f", targetAuthz)
				if r > targetAuthz {
					verdict += " missed"
					missed++
				}
			}
			fmt.Fprintf(tab, "%s\t%s\t%.1f\t%.2f\t%s\t\n", strings.TrimPrefix(string(m), "kept-alive, "), s.name, float64(median(s.results[m]))/1e3, r, verdict)
		}
	}
	return missed, tab.Flush()
}

// question is what Envoy asks with include_peer_certificate.
func (w *world) question(cert, token string) *authv3.CheckRequest {
	a := &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Certificate: w.escaped[cert]},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Id: "1", Method: "GET", Path: "/orders/1", Host: "127.0.0.1", Scheme: "https", Protocol: "HTTP/1.1",
			Headers: map[string]string{
				":authority": "127.0.0.1", ":method": "GET", ":path": "/orders/1", ":scheme": "https",
				"user-agent": "bench/1", "accept": "*/*", "x-forwarded-proto": "https", "x-request-id": "77e3a1d0-0c5b-4d0f-9d5a-0a5f0c3f4b11",
			},
		}},
	}
	if token != "" {
		a.Request.Http.Headers["authorization"] = "Bearer " + token
	}
	return &authv3.CheckRequest{Attributes: a}
}

// escape returns a certificate as Envoy writes it.
func escape(cert []byte) string {
	block, _ := pem.Decode(cert)
	if block == nil {
		return ""
	}
	return strings.NewReplacer("\n", "%0A", " ", "%20", "+", "%2B", "/", "%2F", "=", "%3D").Replace(string(pem.EncodeToMemory(block)))
}

func allowed(resp *authv3.CheckResponse, err error) error {
	if err == nil && resp.GetOkResponse() == nil {
		err = fmt.Errorf("refused with %v", resp.GetDeniedResponse().GetStatus())
	}
	return err
}

func (w *world) controlAuthz(ctx context.Context, c authv3.AuthorizationClient, looks bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	good := w.token()
	for range 2 {
		if err := allowed(c.Check(ctx, w.question(material.ClientFile, good), grpc.WaitForReady(true))); err != nil {
			return err
		}
		for _, q := range []*authv3.CheckRequest{
			w.question(material.AnotherFile, good), w.question(material.ClientFile, w.forged()), w.question(material.ClientFile, w.ended()),
			w.question(material.ClientFile, w.elsewhere()), w.question(material.ClientFile, w.unbound()), w.question(material.ClientFile, ""), w.question("", good),
		} {
			resp, err := c.Check(ctx, q)
			if err != nil {
				return err
			}
			if refused := resp.GetDeniedResponse().GetStatus().GetCode() == http.StatusUnauthorized; refused != looks {
				return errors.New("the check is not done, or one where none should be")
			}
		}
	}
	return nil
}
