package negative

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/certbound/certbound/pkitest"
)

// tokens are stolen tokens, at each resource.
func (target Target) tokens() []attack {
	var all []attack
	for _, address := range target.Resources {
		all = append(all, target.tokensAt(address)...)
	}
	return all
}

func (target Target) tokensAt(address string) []attack {
	owner := target.good()
	thief := target.CA.MustLeaf(nobody())
	twin := target.good() // the client's own names, and another key
	self := pkitest.MustSelfSigned(target.impostor())
	at := func(number int, name, sent string, try func(p *prober, token string) error) attack {
		return attack{number, name + " at " + address, sent, notServed, func(p *prober) error {
			a := p.token(of(owner), request{})
			if a.token == "" {
				return fmt.Errorf("%w: %v", errNoToken, a)
			}
			return try(p, a.token)
		}}
	}
	all := []attack{
		at(24, "no token", "a request without a token, with certificate and without", func(p *prober, _ string) error {
			for _, o := range []*offer{nil, of(owner), of(thief)} {
				if err := refused(p.resource(o, address, "")); err != nil {
					return err
				}
			}
			return nil
		}),
		at(24, "token without a certificate", "a bound token from a client without a certificate", func(p *prober, token string) error {
			return refused(p.resource(nil, address, token))
		}),
		at(24, "token with another certificate", "a bound token with a certificate of another client, of the same client after renewal, and with a self-signed one", func(p *prober, token string) error {
			for _, l := range []*pkitest.Leaf{thief, twin, self} {
				if err := refused(p.resource(of(l), address, token)); err != nil {
					return err
				}
			}
			return nil
		}),
		at(24, "the owner's certificate behind another", "a bound token with the thief's certificate, and the owner's behind it in the chain", func(p *prober, token string) error {
			return refused(p.resource(&offer{append(thief.Chain(), owner.Chain()...), thief.Key}, address, token))
		}),
		at(22, "one token with several certificates, warm cache", "the same token by turns with the owner's certificate, another one and none, on new connections", func(p *prober, token string) error {
			for range 3 {
				if err := served(p.resource(of(owner), address, token)); err != nil {
					return fmt.Errorf("the owner: %w", err)
				}
				for _, o := range []*offer{of(thief), nil, of(twin)} {
					if err := refused(p.resource(o, address, token)); err != nil {
						return err
					}
				}
			}
			return nil
		}),
		at(2, "stolen token and forged header", "a bound token with the owner's certificate in a header field, in the form of each known proxy in turn", func(p *prober, token string) error {
			for _, f := range target.forgeries(owner.Cert) {
				c, tr := p.client(of(thief))
				c.Transport = fields{tr, f}
				err := refused(p.get(c, address, token))
				tr.CloseIdleConnections()
				if err != nil {
					return &formError{f.name, err}
				}
			}
			return nil
		}),
		at(23, "token that was changed", "the token with another thumbprint, one whose letters differ in case, none, and with the algorithm none, each under the old signature or without", func(p *prober, token string) error {
			for what, forged := range forgedTokens(token, thief) {
				if err := refused(p.resource(of(thief), address, forged)); err != nil {
					return fmt.Errorf("%s: %w", what, err)
				}
				if err := refused(p.resource(nil, address, forged)); err != nil {
					return fmt.Errorf("%s, no certificate: %w", what, err)
				}
			}
			return nil
		}),
	}
	return all
}

// forgedTokens returns changed forms of a token. One that is no JWT is changed in its last
// letter.
func forgedTokens(token string, thief *pkitest.Leaf) map[string]string {
	last := "A"
	if strings.HasSuffix(token, "A") {
		last = "B"
	}
	out := map[string]string{"another last letter": token[:len(token)-1] + last}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return out
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims map[string]any
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return out
	}
	cnf, _ := claims["cnf"].(map[string]any)
	old, _ := cnf["x5t#S256"].(string)
	encode := func(cnf any) string {
		changed := make(map[string]any, len(claims))
		for k, v := range claims {
			changed[k] = v
		}
		if delete(changed, "cnf"); cnf != nil {
			changed["cnf"] = cnf
		}
		b, err := json.Marshal(changed)
		if err != nil {
			panic(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt"}`))
	for what, body := range map[string]string{
		"the thumbprint of the thief":  encode(map[string]any{"x5t#S256": thumbprint(thief)}),
		"the thumbprint in lower case": encode(map[string]any{"x5t#S256": strings.ToLower(old)}),
		"SHA-1":                        encode(map[string]any{"x5t": thumbprint(thief)}),
		"no cnf":                       encode(nil),
	} {
		out[what+", old signature"] = strings.Join([]string{parts[0], body, parts[2]}, ".")
		out[what+", no signature"] = strings.Join([]string{parts[0], body, ""}, ".")
		out[what+", alg none"] = strings.Join([]string{none, body, ""}, ".")
	}
	return out
}
