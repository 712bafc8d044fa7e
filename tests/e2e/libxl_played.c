/* A Xen host that is played, for libvirt's own Xen driver: preloaded into libvirtd, it answers what the driver asks of
 * the machine, and writes down as JSON what libxl is told to create. What the driver makes of domain XML, and libxl's
 * own types, are real; nothing is ever created. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libxl.h>

#define CPUS 8

bool virFileExists(const char *path)
{
    if (!strcmp(path, "/proc/xen/capabilities"))
        return false;
    return !strcmp(path, "/dev/xen/xenstored") || access(path, F_OK) == 0;
}

int libxl_ctx_alloc(libxl_ctx **made, int version, unsigned flags, xentoollog_logger *logger)
{
    void **context = calloc(1, 1 << 16); /* the logger comes first; the rest is not looked at */
    context[0] = logger;
    *made = (libxl_ctx *)context;
    return 0;
}

int libxl_ctx_free(libxl_ctx *context)
{
    free(context);
    return 0;
}

void libxl_childproc_setmode(libxl_ctx *context, const libxl_childproc_hooks *hooks, void *user) {}
void libxl_osevent_register_hooks(libxl_ctx *context, const libxl_osevent_hooks *hooks, void *user) {}
void libxl_event_register_callbacks(libxl_ctx *context, const libxl_event_hooks *hooks, void *user) {}

const libxl_version_info *libxl_get_version_info(libxl_ctx *context)
{
    static libxl_version_info info;
    static char capabilities[64];
    strcpy(capabilities, "xen-3.0-x86_64 hvm-3.0-x86_64"); /* the driver cuts it up each time */
    info.xen_version_major = 4;
    info.xen_version_minor = 17;
    info.capabilities = capabilities;
    info.commandline = "dom0_mem=2048M";
    info.pagesize = 4096;
    return &info;
}

int libxl_get_physinfo(libxl_ctx *context, libxl_physinfo *info)
{
    static const uint32_t words[] = {0x178bfbff, 0xf7fa3223, 0x28100800, 1};
    libxl_physinfo_init(info);
    info->nr_nodes = 1;
    info->nr_cpus = info->cores_per_socket = CPUS;
    info->threads_per_core = 1;
    info->cap_hvm = info->cap_pv = info->cap_hap = true;
    memcpy(info->hw_cap, words, sizeof words);
    return 0;
}

int libxl_get_max_cpus(libxl_ctx *context) { return CPUS; }

libxl_numainfo *libxl_get_numainfo(libxl_ctx *context, int *number)
{
    libxl_numainfo *node = calloc(1, sizeof *node);
    node->size = node->free = 1ull << 32;
    node->num_dists = *number = 1;
    node->dists = calloc(1, sizeof *node->dists);
    return node;
}

libxl_cputopology *libxl_get_cpu_topology(libxl_ctx *context, int *number)
{
    libxl_cputopology *cpus = calloc(CPUS, sizeof *cpus);
    for (int i = 0; i < CPUS; i++)
        cpus[i].core = i;
    *number = CPUS;
    return cpus;
}

int libxl_domain_info(libxl_ctx *context, libxl_dominfo *info, uint32_t id)
{
    info->domid = id;
    info->current_memkb = 1 << 20;
    info->vcpu_online = 1;
    return 0;
}

int libxl_retrieve_domain_configuration(libxl_ctx *context, uint32_t id, libxl_domain_config *config,
                                        const libxl_asyncop_how *how)
{
    return 0;
}

int libxl_evenable_domain_death(libxl_ctx *context, uint32_t id, libxl_ev_user user, libxl_evgen_domain_death **event)
{
    return 0;
}

libxl_dominfo *libxl_list_domain(libxl_ctx *context, int *number)
{
    *number = 0;
    return NULL;
}

int libxl_userdata_retrieve(libxl_ctx *context, uint32_t id, const char *user, uint8_t **data, int *length)
{
    *data = NULL;
    *length = 0;
    return 0;
}

int libxl_get_free_memory(libxl_ctx *context, uint64_t *kibibytes)
{
    *kibibytes = 1 << 22;
    return 0;
}

int libxl_domain_create_new(libxl_ctx *context, libxl_domain_config *config, uint32_t *id, const libxl_asyncop_how *how,
                            const libxl_asyncprogress_how *console)
{
    char *json = libxl_domain_config_to_json(context, config);
    FILE *file = fopen(getenv("LIBXL_TOLD"), "w");
    if (json && file)
        fputs(json, file);
    if (file)
        fclose(file);
    free(json);
    return ERROR_FAIL;
}
