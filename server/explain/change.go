package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pki/subject"
)

// A Change is one thing that would make the request pass. If there are several, one of
// them is enough; which one is right is for the operator to say.
type Change struct {
	// Where names the setting: "certbound.yaml:14 trust.sets[0].intermediates", "nginx".
	Where string `json:"where"`
	// What says what to write there.
	What string `json:"what"`
	// Line is what to write, or a command, as it can be copied.
	Line string `json:"line,omitempty"`
}

// A proxyLine is a line of a proxy's configuration: that sends the certificate, that says
// whether it was verified, and that removes what clients send.
type proxyLine struct{ send, verify, remove string }

// proxyLines are lines of the files in docs/proxies, by preset.
var proxyLines = map[string]proxyLine{
	"nginx": {
		"proxy_set_header X-SSL-Client-Cert $ssl_client_escaped_cert;",
		"proxy_set_header X-SSL-Client-Verify $ssl_client_verify;",
		"underscores_in_headers off;",
	},
	"apache": {
		`RequestHeader set X-SSL-Client-Cert "%{SSL_CLIENT_CERT}s"`,
		`RequestHeader set X-SSL-Client-Verify "%{SSL_CLIENT_VERIFY}s"`,
		"RequestHeader unset X-SSL-Client-Cert",
	},
	"haproxy": {
		"http-request set-header X-SSL-Client-Cert %[ssl_c_der,base64] if { ssl_c_used }",
		"http-request set-header X-SSL-Client-Verify %[ssl_c_verify] if { ssl_c_used }",
		"http-request del-header _ -m sub",
	},
	"caddy": {
		"header_up X-SSL-Client-Cert {http.request.tls.client.certificate_der_base64}",
		"",
		"header_up -X-SSL-Client-*",
	},
	"traefik": {"passTLSClientCert", "", "passTLSClientCert"},
	"xfcc":    {"set_current_client_cert_details:", "", "forward_client_cert_details: SANITIZE_SET"},
	"ingress-nginx": {
		`nginx.ingress.kubernetes.io/auth-tls-pass-certificate-to-upstream: "true"`,
		`nginx.ingress.kubernetes.io/auth-tls-pass-certificate-to-upstream: "true"`,
		"",
	},
	"f5": {
		`HTTP::header insert "X-SSL-Client-Cert" [b64encode [SSL::cert 0]]`,
		`HTTP::header insert "X-SSL-Client-Verify" [SSL::verify_result]`,
		"HTTP::header remove $name",
	},
	"fastly": {
		"set req.http.X-SSL-Client-Cert = tls.client.certificate.raw_certificate_b64;",
		`set req.http.X-SSL-Client-Verify = "SUCCESS";`,
		"unset req.http.X-SSL-Client-Cert;",
	},
	"google-cloud": {
		"--custom-request-header='X-Client-Cert-Leaf:{client_cert_leaf}'",
		"--custom-request-header='X-Client-Cert-Chain-Verified:{client_cert_chain_verified}'",
		"",
	},
	"azure-application-gateway": {`header_value = "{var_client_certificate}"`, `header_value = "{var_client_certificate_verification}"`, ""},
	"kong":                      {"inject_client_cert_details: true", "", ""},
}

// changes says what to change for the check that failed.
func (x *explainer) changes() {
	c, failed := x.r.Decision.Failure()
	if !failed {
		x.warnings()
		return
	}
	switch c.Reason {
	case decision.SourceRepeated:
		x.proxy("set the field and do not add to it, so that the client's copy does not survive", func(l proxyLine) string { return l.send })
	case decision.SourceLookAlike, decision.SourceHopByHop:
		x.proxy("remove what clients send, under every spelling", func(l proxyLine) string { return l.remove })
	case decision.SourceUnverified:
		x.proxy("say for each request whether the certificate was verified", func(l proxyLine) string { return l.verify })
	case decision.SourceMalformed, decision.SourceHalfDecoded, decision.SourceContradiction, decision.SourceProxyOwn, decision.NotEnough:
		x.proxy("send the client's certificate in the form of this preset", func(l proxyLine) string { return l.send })
	case decision.NoCertificate:
		x.missing(c)
	case decision.SourceUntrusted:
		if x.r.Decision.Peer != "" {
			x.setting("listen.mtls.proxy.prefixes", "add the address of the proxy, if that is what "+x.r.Decision.Peer+" is; if it is not, somebody is forging the header", "")
		} else {
			x.setting("listen.mtls.proxy", "say how the proxy is known, if that is who sent this; if it is not, somebody is forging the header", "")
		}
	case decision.SourceTooFewHops:
		x.setting("listen.mtls.proxy.trusted_hops", "correct the number, or let every trusted proxy append its element", "")
	case decision.UnknownClient:
		x.add("the registrations", "register the client", x.command("client add", x.id()))
	case decision.ClientDisabled:
		x.registration("disabled", "accept the client again", x.command("client update", x.id(), "--enable"))
	case decision.ScopeNotAllowed:
		x.registration("scope", "allow it, if the client may have it; tokens.scopes has what exists",
			x.command("client update", x.id(), "--scope", strings.TrimSpace(c.Expected+" "+c.Found)))
		x.add("the client", "ask for less", "")
	case decision.ResourceNotAllowed:
		x.setting("tokens.resources", "add the resource, if the server does not have it", "")
		x.registration("resources", "allow it, if the client may ask for it", "")
	case decision.ChainIncomplete:
		issuer := "the issuer that is named above"
		if x.issuerDER != nil {
			issuer = nameText(x.issuerDER)
		}
		x.setting(x.setKey("intermediates"), "add a PEM file with the certificate of "+issuer+": a helper, never an anchor", "")
		x.add("the client", "send the intermediates after the certificate, if nothing in between drops them", "")
		x.setting(x.setKey("anchors"), "if that issuer is a root CA that may issue certificates for these clients: add it. If it is the CA of somebody else, the client has sent the wrong certificate", "")
	case decision.UnknownAuthority, decision.BadSignature, decision.NoAnchors:
		x.setting(x.setKey("anchors"), "add the PEM file of the CA, if it may issue certificates for these clients", "")
		x.anchorSet()
	case decision.ChainTooLong:
		x.setting(x.setKey("max_chain"), "raise the limit", "")
	case decision.LeafIsCA:
		x.setting(x.setKey("allow_ca_leaf"), "set it, if a client may use a CA certificate", "allow_ca_leaf: true")
		x.reissue("without CA:TRUE")
	case decision.ExtKeyUsage:
		x.reissue("with the extended key usage clientAuth")
	case decision.KeyUsage:
		x.reissue("with the key usage digitalSignature")
	case decision.WeakKey:
		x.setting(x.setKey("min_rsa_bits"), "only if nothing else helps", "")
		x.reissue("with a stronger key")
	case decision.WeakSignature:
		x.reissue("with a signature of SHA-256 or better")
	case decision.Expired:
		x.reissue("with dates that include today")
	case decision.SubjectMismatch, decision.SubjectAbsent:
		x.subjectChanges()
	case decision.NotRegistered, decision.KeySetEmpty:
		x.notRegistered()
	}
	if len(x.r.Changes) == 0 || c.Fix != "" && c.Fix != c.Reason.Fix() {
		x.add("", c.HowToFix(), "")
	}
	x.warnings()
}

func (x *explainer) add(where, what, line string) {
	x.r.Changes = append(x.r.Changes, Change{where, what, line})
}

func (x *explainer) id() string {
	id := cmp.Or(idOf(x.in.Client), x.in.ClientID, "ID")
	if strings.HasPrefix(id, "-") {
		return "ID" // what a stranger has chosen must not become a flag
	}
	return id
}

// command writes a command of this program.
func (x *explainer) command(name string, args ...string) string {
	out := "certbound " + name
	for _, a := range args {
		out += " " + shellQuote(a)
	}
	return out
}

func shellQuote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,@") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// setting names a key of the configuration, with its place.
func (x *explainer) setting(key, what, line string) {
	where := key
	if x.in.Server.Place != nil {
		if file := x.in.Server.Place(key); file != "" {
			where = file + " " + key
		}
	}
	x.add(where, what, line)
}

// setKey is the key of a member of the client's anchor set.
func (x *explainer) setKey(member string) string {
	name := cmp.Or(x.r.AnchorSet, x.set())
	for i, s := range x.in.Server.Sets {
		if s.Name == name {
			return fmt.Sprintf("trust.sets[%d].%s", i, member)
		}
	}
	return "trust.sets[]." + member
}

// registration names a member of the registration: in the file, or by command.
func (x *explainer) registration(member, what, command string) {
	p := x.in.ClientPlace
	if p.Key == "" {
		x.add("the registration of "+x.id(), what, command)
		return
	}
	x.add(strings.TrimSpace(p.File+" "+p.Key+"."+member), what, "")
}

func (x *explainer) reissue(how string) {
	x.add("the CA", "issue the certificate anew, "+how, "")
}

// anchorSet is for a client that has another set than its certificate fits.
func (x *explainer) anchorSet() {
	if x.presented.Leaf() == nil || x.in.Client == nil {
		return
	}
	if leaf := x.presented.Leaf(); string(leaf.RawIssuer) == string(leaf.RawSubject) {
		x.r.Changes = nil // an anchor for one client would be one too many
		x.registration("token_endpoint_auth_method", "if the certificate is this client's: the method for self-signed certificates",
			x.command("client update", x.id(), "--method", clientauth.SelfSignedTLSClientAuth, "--cert", "FILE"))
		return
	}
	for _, s := range x.in.Server.Sets {
		if s.Name == x.set() {
			continue
		}
		if _, ok := x.validFor(s.Name); ok {
			x.registration("anchor_set", "name the set "+s.Name+", for which the certificate is valid", x.command("client update", x.id(), "--anchor-set", s.Name))
		}
	}
}

// proxy names the line of the proxy's configuration.
func (x *explainer) proxy(what string, pick func(proxyLine) string) {
	name := x.preset
	p, ok := presetNamed(name)
	if !ok {
		return
	}
	line := pick(proxyLines[name])
	where := p.Title
	if p.Config != "" {
		where += ", see docs/proxies/" + p.Config
	}
	x.add(where, what, line)
}

func presetNamed(name string) (certsource.Preset, bool) {
	all := certsource.Presets()
	i := slices.IndexFunc(all, func(p certsource.Preset) bool { return p.Name == name })
	if i < 0 {
		return certsource.Preset{}, false
	}
	return all[i], true
}

// missing is for a request without a certificate.
func (x *explainer) missing(c decision.Check) {
	if len(x.r.Candidates) > 0 && x.in.Server.SourceName != "" && x.r.Candidates[0].Preset != x.in.Server.SourceName && x.r.Candidates[0].Fit != None {
		x.setting("listen.mtls.source", "name the proxy that is in front", "source: "+x.r.Candidates[0].Preset)
		return
	}
	for _, w := range x.r.Decision.Warnings {
		if w.Reason == decision.SourceForeignHeader {
			x.setting("listen.mtls.source", "name the proxy that sends "+w.Found+", if it is yours", "")
			break
		}
	}
	if x.preset != "" && x.preset != "tls" {
		x.proxy("ask clients for a certificate, and send it", func(l proxyLine) string { return l.send })
	}
	x.add("the client", "send the certificate, and send it to the endpoint in mtls_endpoint_aliases", "")
}

var memberFlags = map[subject.Kind]string{
	subject.DN: "--dn", subject.SANDNS: "--san-dns", subject.SANURI: "--san-uri", subject.SANIP: "--san-ip", subject.SANEmail: "--san-email",
}

// subjectChanges offers what the certificate really has.
func (x *explainer) subjectChanges() {
	leaf := x.presented.Leaf()
	if leaf == nil {
		if name := x.r.Decision.Subject; name != "" && (x.in.Client == nil || x.in.Client.SubjectDN != "") {
			if _, err := subject.ParseName(name); err == nil {
				x.registration(string(subject.DN), "if the certificate is this client's: register "+name, x.command("client update", x.id(), "--dn", name))
			}
		}
		x.reissue("with the registered name")
		return
	}
	names, err := subject.Describe(leaf)
	if err != nil {
		return
	}
	kind := subject.DN
	if x.in.Client != nil {
		kind, _ = x.in.Client.Subject()
	}
	for _, same := range []bool{true, false} { // of the registered kind first
		for _, n := range names {
			if !n.Usable || (n.Kind == kind) != same {
				continue
			}
			x.registration(string(n.Kind), "if the certificate is this client's: register "+n.Value, x.command("client update", x.id(), memberFlags[n.Kind], n.Value))
		}
	}
	x.reissue("with the registered name")
	x.lookAlike()
}

// lookAlike says if what is registered is the spelling of a tool.
func (x *explainer) lookAlike() {
	if x.in.Client == nil || x.in.Client.SubjectDN == "" {
		return
	}
	for _, s := range x.r.Names {
		if s.Tool != RFC4514 && s.Text == x.in.Client.SubjectDN && s.Text != x.r.Names[0].Text {
			x.r.Notes = append(x.r.Notes, "what is registered is the name as "+s.Tool+" prints it ("+s.How+"), which means another name in RFC 4514")
			return
		}
	}
}

func (x *explainer) notRegistered() {
	if x.in.Client != nil && x.in.Client.JWKSURI != "" {
		x.add("the client", "publish its certificate in x5c at "+x.in.Client.JWKSURI, "")
		return
	}
	x.registration("certificates", "if it is this client's: register the certificate", x.command("client update", x.id(), "--cert", "FILE"))
	if leaf := x.presented.Leaf(); leaf != nil && string(leaf.RawIssuer) != string(leaf.RawSubject) {
		x.registration("token_endpoint_auth_method", "or use the method for certificates of a CA",
			x.command("client update", x.id(), "--method", clientauth.TLSClientAuth, "--cert", "FILE"))
	}
}

// warnings says what to do about findings that refuse nothing.
func (x *explainer) warnings() {
	for _, w := range x.r.Decision.Warnings {
		if w.Reason == decision.SourceForeignHeader {
			x.r.Notes = append(x.r.Notes, w.Found+": "+w.Reason.Summary()+"; "+w.HowToFix())
		}
	}
}
