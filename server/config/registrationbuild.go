package config

import (
	"fmt"
	"os"
	"time"

	"github.com/certbound/certbound/authserver"
)

// registration returns the settings of dynamic registration. A key set that cannot be
// read is left out, and checkRegistration has said so.
func (f *File) registration() authserver.Registration {
	r := &f.Registration
	out := authserver.Registration{
		Enabled: r.Enabled, Open: r.Open, OpenGrantTypes: r.OpenGrantTypes, OpenLimit: r.OpenLimit, OpenWindow: time.Duration(r.OpenWindow),
		Methods: r.Methods, Scopes: r.Scopes, Resources: r.Resources, AnchorSet: r.AnchorSet, Profile: r.Profile, MaxClients: r.MaxClients,
	}
	if len(r.Methods) == 0 {
		out.Methods = nil // those of the server
	}
	for _, s := range r.Statements {
		issuer := authserver.StatementIssuer{
			Issuer: s.Issuer, JWKSURI: s.JWKSURI, Algs: s.Algorithms, MaxAge: time.Duration(s.MaxAge), SoftwareIDs: s.SoftwareIDs,
			AnchorSet: s.AnchorSet, Methods: s.Methods, Scopes: s.Scopes, Resources: s.Resources,
		}
		if s.JWKS != "" {
			issuer.JWKS, _ = os.ReadFile(f.Path(s.JWKS))
		}
		out.Statements = append(out.Statements, issuer)
	}
	return out
}

// registration checks what the server's own check cannot say with a place.
func (c *checker) registration() {
	r := &c.file.Registration
	for i, s := range r.Statements {
		key := fmt.Sprintf("registration.statements[%d]", i)
		if s.JWKS == "" {
			continue
		}
		if info, err := os.Stat(c.file.Path(s.JWKS)); err != nil {
			c.fault(key+".jwks", "name a file with the key set of the issuer", "%v", err)
		} else if info.Size() > 1<<20 {
			c.fault(key+".jwks", "name a file with the key set of the issuer", "is larger than 1 MiB")
		}
	}
	switch {
	case !r.Enabled && r.Open:
		c.fault("registration.open", "set registration.enabled to true, or leave this out", "is true, but there is no registration endpoint")
	case r.Enabled && (r.OpenLimit < 1 || r.OpenWindow <= 0 || r.MaxClients < 1):
		c.fault("registration", "leave the keys out for their defaults", "open_limit, open_window and max_clients have to be more than zero")
	}
}
