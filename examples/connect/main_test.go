package main

import (
	"net/http"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/certbound/certbound/examples/internal/try"
)

// Each protocol of connect turns the status of the middleware into the code that belongs to
// it.
func TestRoutes(t *testing.T) {
	w := try.Start(t, routes)
	for _, protocol := range []struct {
		name    string
		options []connect.ClientOption
	}{
		{"connect", nil},
		{"gRPC", []connect.ClientOption{connect.WithGRPC()}},
		{"gRPC-Web", []connect.ClientOption{connect.WithGRPCWeb()}},
	} {
		for _, tt := range []struct {
			name, procedure, token string
			client                 *http.Client
			code                   connect.Code // 0: the answer
		}{
			{"the owner", list, w.Token, w.Owner, 0},
			{"without a certificate", list, w.Token, w.Nobody, connect.CodeUnauthenticated},
			{"a stolen token", list, w.Token, w.Thief, connect.CodeUnauthenticated},
			{"without a token", list, "", w.Owner, connect.CodeUnauthenticated},
			{"without the scope", list, w.Poor, w.Owner, connect.CodePermissionDenied},
			{"without one of the scopes", remove, w.Token, w.Owner, connect.CodePermissionDenied},
			{"with all scopes", remove, w.Admin, w.Owner, 0},
		} {
			t.Run(protocol.name+"/"+tt.name, func(t *testing.T) {
				c := connect.NewClient[emptypb.Empty, wrapperspb.StringValue](tt.client, w.URL+tt.procedure, protocol.options...)
				req := connect.NewRequest(new(emptypb.Empty))
				if tt.token != "" {
					req.Header().Set("Authorization", "Bearer "+tt.token)
				}
				answer, err := c.CallUnary(t.Context(), req)
				if tt.code == 0 {
					if err != nil || answer.Msg.Value != "hello billing" {
						t.Errorf("got %v, %v", answer, err)
					}
					return
				}
				if connect.CodeOf(err) != tt.code {
					t.Errorf("got %v, %v, want code %v", answer, err, tt.code)
				}
			})
		}
	}
}
