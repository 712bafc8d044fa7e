// Command vcsim plays an ESX host for libvirt's ESX driver: VMware's own simulator, with what libvirt misses put in.
//
// libvirt's reader of SOAP wants a type on every item of a list; the simulator registers a machine without reading its
// VMX file, tells of disks without their size, and finds no file where no pattern is given. All that is mended on the way through. It prints its address and
// serves until its input ends. A line "expire" ends all sessions, and is answered by "expired"; "login" is printed for
// each attempt to log in. User and password are those given; with -datastore the files of the host's datastore are below
// that folder, for a test to see.
package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

var (
	listType   = regexp.MustCompile(`:type="ArrayOf(\w+)"`)
	registered = regexp.MustCompile(`<RegisterVM_Task.*<path[^>]*>\[[^\]]*\] ([^<]*)</path>`)
	entry      = regexp.MustCompile(`(?m)^([\w.:]+) = "(.*)"$`)
	login      = regexp.MustCompile(`<Login[ >]`)
	unlimited  = regexp.MustCompile(`(?s)(<SearchDatastoreSubFolders_Task.*)</searchSpec>`)
	below      = regexp.MustCompile(`(<folderPath>\[[^\]]*\])/`)
	searched   = regexp.MustCompile(`<folderPath>\[[^\]]*\] ?([^<]*)</folderPath>`)
	disk       = regexp.MustCompile(`<file [^>]*type="VmDiskFileInfo"[^>]*><path>([^<]*)</path>`)
	extent     = regexp.MustCompile(`(?m)^RW (\d+) `)
)

func main() {
	user := flag.String("user", "root", "who may log in")
	password := flag.String("password", "", "the user's password")
	folder := flag.String("datastore", "", "folder of the datastore's files (it must exist)")
	flag.Parse()

	model := simulator.ESX()
	model.Machine, model.Autostart = 0, false
	if err := model.Create(); err != nil {
		log.Fatal(err)
	}
	for _, item := range model.Map().All("Datastore") {
		store := item.(*simulator.Datastore)
		moveTo(store, *folder)
	}
	model.Service.Listen = &url.URL{User: url.UserPassword(*user, *password)}
	inner := model.Service.NewServer()
	defer inner.Close()

	front := httptest.NewTLSServer(mended(inner.URL, *folder, *user, *password))
	defer front.Close()
	fmt.Println(front.URL)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if lines.Text() == "expire" {
			if err := expire(inner.URL); err != nil {
				log.Fatal(err)
			}
			fmt.Println("expired")
		}
	}
}

// expire ends all sessions but the one that it is done with, as a host does with those that are idle.
func expire(simulator *url.URL) error {
	ctx := context.Background()
	client, err := govmomi.NewClient(ctx, simulator, true)
	if err != nil {
		return err
	}
	var all mo.SessionManager
	manager := *client.ServiceContent.SessionManager
	err = property.DefaultCollector(client.Client).RetrieveOne(ctx, manager, []string{"sessionList"}, &all)
	if err != nil {
		return err
	}
	own, err := client.SessionManager.UserSession(ctx)
	if err != nil {
		return err
	}
	for _, one := range all.SessionList {
		if one.Key != own.Key {
			if err := client.SessionManager.TerminateSession(ctx, []string{one.Key}); err != nil {
				return err
			}
		}
	}
	return client.Logout(ctx)
}

// moveTo puts a datastore's files below folder, and says where the host mounts it: the simulator leaves that out.
func moveTo(store *simulator.Datastore, folder string) {
	info := store.Info.GetDatastoreInfo()
	info.Url = folder
	store.Summary.Url = folder
	for i := range store.Host {
		store.Host[i].MountInfo.Path = "/vmfs/volumes/" + store.Name
	}
}

// mended asks who writes a file, which the simulator does not, and passes requests on to the simulator, and its answers back as libvirt reads them.
func mended(simulator *url.URL, folder, user, password string) http.Handler {
	inner := &url.URL{Scheme: simulator.Scheme, Host: simulator.Host}
	proxy := httputil.NewSingleHostReverseProxy(inner)
	proxy.ModifyResponse = func(response *http.Response) error {
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		setBody(response, sized(typed(body), folder))
		if found := response.Request.Context().Value(registration{}); found != nil {
			return adopt(simulator, filepath.Join(folder, found.(string)))
		}
		return nil
	}
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		name, word, _ := request.BasicAuth()
		known := len(request.Cookies()) > 0 || (name == user && word == password)
		if request.Method == http.MethodPut && !known {
			http.Error(writer, "who are you?", http.StatusUnauthorized)
			return
		}
		body, err := io.ReadAll(request.Body)
		if err != nil {
			http.Error(writer, err.Error(), http.StatusBadRequest)
			return
		}
		if !bytes.Contains(body, []byte("<matchPattern")) {
			body = unlimited.ReplaceAll(body, []byte("$1<matchPattern>*</matchPattern></searchSpec>"))
			request.ContentLength = int64(len(body))
		}
		request.Body = io.NopCloser(bytes.NewReader(body))
		if login.Match(body) {
			fmt.Println("login")
		}
		if found := registered.FindSubmatch(bytes.ReplaceAll(body, []byte("\n"), nil)); found != nil {
			path := string(found[1])
			if err := accompany(filepath.Join(folder, path)); err != nil {
				http.Error(writer, err.Error(), http.StatusInternalServerError)
				return
			}
			request = request.WithContext(context.WithValue(request.Context(), registration{}, path))
		}
		proxy.ServeHTTP(writer, request)
	})
}

type registration struct{}

// accompany makes the files that the simulator expects beside a VMX file; on a host they come with the first start.
func accompany(path string) error {
	folder := filepath.Dir(path)
	for _, name := range []string{filepath.Base(folder) + ".nvram", "vmware.log"} {
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// typed gives every item of a list the type that the list's own says.
func typed(body []byte) []byte {
	for _, found := range listType.FindAllSubmatch(body, -1) {
		name := string(found[1])
		plain := regexp.MustCompile(`<` + name + `( type="\w+")?>`)
		body = plain.ReplaceAll(body, []byte(`<`+name+`$1 xsi:type="`+name+`">`))
	}
	return body
}

// sized adds the size to each disk of the folders that were searched, as its descriptor has it, and names the folders
// as a host does.
func sized(body []byte, folder string) []byte {
	body = below.ReplaceAll(body, []byte("$1 "))
	var out []byte
	starts := append(searched.FindAllSubmatchIndex(body, -1), []int{len(body), len(body), 0, 0})
	out = append(out, body[:starts[0][0]]...)
	for i, at := range starts[:len(starts)-1] {
		path := filepath.Join(folder, string(body[at[2]:at[3]]))
		out = append(out, disk.ReplaceAllFunc(body[at[0]:starts[i+1][0]], func(item []byte) []byte {
			text, _ := os.ReadFile(filepath.Join(path, string(disk.FindSubmatch(item)[1])))
			sectors := 0
			if size := extent.FindSubmatch(text); size != nil {
				sectors, _ = strconv.Atoi(string(size[1]))
			}
			return []byte(fmt.Sprintf("%s<capacityKb>%d</capacityKb>", item, sectors/2))
		})...)
	}
	return out
}

func setBody(response *http.Response, body []byte) {
	response.Body = io.NopCloser(bytes.NewReader(body))
	response.ContentLength = int64(len(body))
	response.Header.Set("Content-Length", strconv.Itoa(len(body)))
}

// adopt gives the machine that was registered with the VMX file at path what that file says of it.
func adopt(simulator *url.URL, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	said := map[string]string{}
	for _, found := range entry.FindAllSubmatch(text, -1) {
		said[string(found[1])] = string(found[2])
	}
	ctx := context.Background()
	client, err := govmomi.NewClient(ctx, simulator, true)
	if err != nil {
		return err
	}
	finder := find.NewFinder(client.Client)
	machine, err := finder.VirtualMachine(ctx, filepath.Base(filepath.Dir(path))) // the simulator's name for it
	if err != nil {
		return err
	}
	memory, _ := strconv.ParseInt(said["memsize"], 10, 64)
	cpus, _ := strconv.ParseInt(said["numvcpus"], 10, 32)
	task, err := machine.Reconfigure(ctx, types.VirtualMachineConfigSpec{
		Uuid:     dashed(said["uuid.bios"]),
		Name:     said["displayName"],
		MemoryMB: memory,
		NumCPUs:  int32(cpus),
	})
	if err != nil {
		return err
	}
	return task.Wait(ctx)
}

// dashed writes VMX's "00 11 .. 66 77-88 .." as a UUID.
func dashed(uuid string) string {
	hex := strings.NewReplacer(" ", "", "-", "").Replace(uuid)
	if len(hex) != 32 {
		return ""
	}
	return strings.Join([]string{hex[:8], hex[8:12], hex[12:16], hex[16:20], hex[20:]}, "-")
}
