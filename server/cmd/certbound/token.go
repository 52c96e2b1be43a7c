package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/oauth2"

	"github.com/certbound/certbound/oauthclient"
)

type tokenFlags struct {
	issuer, clientID, cert, key, ca, secret string
	scopes, resources                       []string
	allowUnbound, json                      bool
	timeout                                 time.Duration
	browser                                 browserFlags
}

func (a *app) tokenCommand() *cobra.Command {
	var f tokenFlags
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Get an access token with a certificate, and print it",
		Long: `Get an access token by client_credentials, as a client would: read the metadata of
the issuer, follow mtls_endpoint_aliases (RFC 8705, Section 5), show the certificate,
and print the token. A token that is not bound to the certificate is refused.

With --browser the token is for a person, by authorization code with PKCE: the URL for
the browser is printed, and opened if that can be done; the browser comes back to a
port of this machine. The client needs the redirect URI http://127.0.0.1/callback, of
which the port does not count (RFC 8252). --session-file keeps the tokens, the refresh
token included, with mode 0600.`,
		Example: `  certbound token --issuer https://as.example --client-id billing \
    --cert billing.pem --key billing-key.pem --scope read
  TOKEN=$(certbound token --issuer https://localhost:8443 --ca certbound-dev/server-ca.pem \
    --client-id billing --cert certbound-dev/billing.pem --key certbound-dev/billing-key.pem)
  certbound token … | certbound inspect -
  certbound token --browser --public --issuer https://localhost:8443 --ca certbound-dev/server-ca.pem \
    --client-id wallet --scope 'openid read'`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.browser.check(cmd, f); err != nil {
				return err
			}
			if f.browser.on && !cmd.Flags().Changed("timeout") {
				f.timeout = browserTimeout
			}
			var missing []string
			for _, m := range []struct{ flag, value string }{
				{"--issuer", f.issuer}, {"--client-id", f.clientID}, {"--cert", f.cert}, {"--key", f.key},
			} {
				if m.value == "" && (!f.browser.public || m.flag != "--cert" && m.flag != "--key") {
					missing = append(missing, m.flag)
				}
			}
			if len(missing) > 0 {
				return usagef(cmd, "%s", missingText(missing))
			}
			return a.token(cmd.Context(), f)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.issuer, "issuer", "", "`URL` of the authorization server")
	fs.StringVar(&f.clientID, "client-id", "", "`ID` of the client")
	fs.StringVar(&f.cert, "cert", "", "PEM `FILE` with the certificate and its intermediates")
	fs.StringVar(&f.key, "key", "", "PEM `FILE` with the private key")
	fs.StringVar(&f.ca, "ca", "", "PEM `FILE` with CAs of the server (default the system's)")
	fs.StringArrayVar(&f.scopes, "scope", nil, "`SCOPES` to ask for, separated by spaces (repeatable)")
	fs.StringArrayVar(&f.resources, "resource", nil, "`URI` that the token is to be for (repeatable)")
	fs.StringVar(&f.secret, "secret-file", "", "`FILE` with the client secret, for client_secret_basic")
	fs.BoolVar(&f.allowUnbound, "allow-unbound", false, "take a token that is not bound to the certificate")
	fs.DurationVar(&f.timeout, "timeout", 15*time.Second, "for everything together; with --browser 5m if it is left out")
	f.browser.register(cmd)
	fs.BoolVar(&f.json, "json", false, "print JSON: the token with its end, scope and binding")
	for _, name := range []string{"cert", "key", "ca"} {
		_ = cmd.MarkFlagFilename(name, "pem", "crt", "key")
	}
	return cmd
}

// A tokenAnswer is the answer of the command as JSON.
type tokenAnswer struct {
	AccessToken string    `json:"access_token"`
	TokenType   string    `json:"token_type"`
	Expires     time.Time `json:"expires,omitzero"`
	Scope       string    `json:"scope,omitempty"`
	Bound       string    `json:"x5t#S256,omitempty"`
	Endpoint    string    `json:"token_endpoint"`
}

func (a *app) token(ctx context.Context, f tokenFlags) error {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	cfg := oauthclient.Config{
		Issuer: f.issuer, ClientID: f.clientID, CertFile: f.cert, KeyFile: f.key,
		AuthMethod: oauthclient.TLSClientAuth, Resources: f.resources,
		RequireBoundTokens: !f.allowUnbound, Logger: a.quietLogger(),
	}
	var leaf *x509.Certificate
	var err error
	if f.browser.public {
		pair, err := ownCertificate(f.cert, f.key)
		if err != nil {
			return err
		}
		cfg.CertFile, cfg.KeyFile, cfg.Certificate = "", "", oauthclient.Static(pair)
		cfg.AuthMethod, leaf = oauthclient.None, pair.Leaf
	} else if leaf, err = checkKeyPair(f.cert, f.key); err != nil {
		return err
	} else if isSelfSigned(leaf) {
		cfg.AuthMethod = oauthclient.SelfSignedTLSClientAuth
	}
	for _, s := range f.scopes {
		cfg.Scopes = append(cfg.Scopes, strings.Fields(s)...)
	}
	if f.secret != "" {
		data, err := a.readInput(f.secret)
		if err != nil {
			return err
		}
		cfg.AuthMethod, cfg.ClientSecret = oauthclient.ClientSecretBasic, strings.TrimRight(string(data), "\r\n")
	}
	if f.ca != "" {
		if cfg.RootCAs, err = readPool(f.ca); err != nil {
			return err
		}
	}
	if f.browser.on {
		if err := a.personToken(ctx, cfg, f); err != nil {
			return explainTokenError(err, f, leaf)
		}
		return nil
	}
	client, err := oauthclient.New(cfg)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	t, err := client.TokenSource(ctx).Token()
	if err != nil {
		return explainTokenError(err, f, leaf)
	}
	if !f.json {
		_, err := fmt.Fprintln(a.stdout, t.AccessToken)
		return err
	}
	answer := tokenAnswer{AccessToken: t.AccessToken, TokenType: t.Type(), Expires: t.Expiry.UTC(), Scope: scopeOf(t)}
	if strings.Count(t.AccessToken, ".") == 2 {
		if r, err := reportToken(t.AccessToken); err == nil && r.CNF != nil {
			answer.Bound = r.CNF.X5TS256
		}
	}
	if answer.Endpoint, err = client.Endpoint(ctx, oauthclient.TokenEndpoint); err != nil {
		return err
	}
	return a.printJSON(answer)
}

func scopeOf(t *oauth2.Token) string {
	s, _ := t.Extra("scope").(string)
	return s
}

// checkKeyPair says what is wrong with a certificate and its key, by file.
func checkKeyPair(cert, key string) (*x509.Certificate, error) {
	certPEM, err := os.ReadFile(cert)
	if err != nil {
		return nil, fileError(err)
	}
	keyPEM, err := os.ReadFile(key)
	if err != nil {
		return nil, fileError(err)
	}
	found, err := recognise(certPEM)
	if err != nil || len(found.certs) == 0 {
		if e, ok := errors.AsType[*artifactError](err); ok {
			return nil, hinted(fmt.Errorf("%s: %w", cert, err), "%s", e.Hint)
		}
		return nil, fmt.Errorf("%s: this is no certificate", cert)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	switch {
	case err == nil:
		return pair.Leaf, nil
	case strings.Contains(err.Error(), "does not match"):
		return nil, hinted(fmt.Errorf("the private key in %s does not belong to the certificate in %s", key, cert),
			"give the key that the certificate was made for; the certificate is %s", nameText(found.certs[0].RawSubject))
	}
	return nil, fmt.Errorf("%s: %s", key, strings.TrimPrefix(err.Error(), "tls: "))
}

func readPool(name string) (*x509.CertPool, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fileError(err)
	}
	found, err := recognise(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(found.certs) == 0 {
		return nil, fmt.Errorf("%s: there is no certificate in this file", name)
	}
	pool := x509.NewCertPool()
	for _, c := range found.certs {
		pool.AddCert(c)
	}
	return pool, nil
}

// explainTokenError adds what the caller can do.
func explainTokenError(err error, f tokenFlags, leaf *x509.Certificate) error {
	if e, ok := errors.AsType[*oauthclient.Error](err); ok && e.Code == "invalid_client" {
		hint := "the server's log has the reason; this certificate is " + nameText(leaf.RawSubject)
		if e.RequestID != "" {
			hint += "\nwhere the log is: certbound explain --id " + e.RequestID + " --log FILE"
		}
		return hinted(err, "%s", hint)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		if f.ca == "" {
			return hinted(err, "name the CA of the server with --ca")
		}
		return hinted(err, "the server's certificate is not from the CA in %s", f.ca)
	}
	if errors.Is(err, oauthclient.ErrNotBound) {
		return hinted(err, "register the client with tls_client_certificate_bound_access_tokens, or take the token with --allow-unbound")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return hinted(err, "is the server there? --timeout waits longer")
	}
	return err
}
